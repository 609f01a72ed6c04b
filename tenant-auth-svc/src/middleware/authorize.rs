//! Permits a caller what its roles allow, and nothing else.

use std::task::{Context, Poll};

use futures::future::{Either, Ready, ready};
use http::{Request, Response};
use tonic::Status;
use tower::{Layer, Service};

use super::identify::Identity;
use crate::{
    domain::access::{Access, access},
    grpc::ApiError,
};

/// Refuses RPCs that the caller's roles do not allow. An RPC without an access rule is refused for all
/// callers.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuthorizeLayer;

impl<S> Layer<S> for AuthorizeLayer {
    type Service = Authorize<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Authorize { inner }
    }
}

/// The service of [`AuthorizeLayer`].
#[derive(Clone, Debug)]
pub struct Authorize<S> {
    inner: S,
}

impl<S, In, Out> Service<Request<In>> for Authorize<S>
where
    S: Service<Request<In>, Response = Response<Out>>,
    Out: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<Ready<Result<S::Response, S::Error>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<In>) -> Self::Future {
        // Without the identify layer, the caller is unknown.
        let identity = request.extensions().get::<Identity>().unwrap_or(&Identity::Unknown);
        match check_access(identity, request.uri().path()) {
            Ok(()) => Either::Right(self.inner.call(request)),
            Err(error) => Either::Left(ready(Ok(Status::from(error).into_http()))),
        }
    }
}

/// Checks that a caller may call the RPC at a path.
pub(crate) fn check_access(identity: &Identity, path: &str) -> Result<(), ApiError> {
    // Before the search for the rule.
    if matches!(identity, Identity::Anyone) { Ok(()) } else { check_rule(identity, access(path)) }
}

/// Checks that a caller satisfies a rule.
pub(crate) fn check_rule(identity: &Identity, rule: Access) -> Result<(), ApiError> {
    let caller = match identity {
        Identity::Anyone => return Ok(()),
        Identity::Known(caller) => Some(caller),
        Identity::Unknown => None,
    };
    match (rule, caller) {
        (Access::Anyone, _) | (Access::AnyCaller, Some(_)) => Ok(()),
        (Access::Roles(roles), Some(caller)) if caller.roles.intersects(roles) => Ok(()),
        (Access::Roles(roles), Some(caller)) => {
            Err(ApiError::RoleMissing { caller: caller.name.to_string(), needs: roles.to_string() })
        }
        (Access::Denied, Some(_)) => Err(ApiError::UnknownRpc),
        (_, None) => Err(ApiError::UnknownCaller),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::access::{Caller, Role, Roles, access_rules};

    fn known(roles: &[Role]) -> Identity {
        Identity::Known(Arc::new(Caller { name: "api".into(), roles: Roles::of(roles) }))
    }

    #[test]
    fn each_role_is_allowed_exactly_what_its_rules_say() {
        let mut allowed_somewhere = 0;
        for (path, access) in access_rules() {
            for role in Role::ALL {
                let expected = match access {
                    Access::Anyone | Access::AnyCaller => true,
                    Access::Roles(roles) => roles.iter().any(|allowed| allowed == role),
                    Access::Denied => false,
                };
                assert_eq!(check_access(&known(&[role]), path).is_ok(), expected, "{path} as {role:?}");
                allowed_somewhere += usize::from(expected);
            }
            assert_eq!(
                check_access(&Identity::Unknown, path).is_ok(),
                access == Access::Anyone,
                "{path} as an unknown caller"
            );
            assert!(check_access(&Identity::Anyone, path).is_ok());
        }
        assert!(allowed_somewhere > 30);
    }

    #[test]
    fn path_without_a_rule_is_refused() {
        for path in ["/tenantauth.v1.AdminService/New", "/", ""] {
            assert!(check_access(&known(&Role::ALL), path).is_err());
            assert!(check_access(&Identity::Unknown, path).is_err());
        }
    }
}
