//! A service whose one RPC does nothing.

use std::pin::Pin;

use tenant_auth_proto::v1::{self, validation_service_server::ValidationService};
use tonic::{Request, Response, Status, Streaming, codegen::tokio_stream::Stream};

/// Answers every `ValidateKey` with an empty message.
#[derive(Clone, Copy, Debug)]
pub struct EmptyService;

#[tonic::async_trait]
impl ValidationService for EmptyService {
    type StreamValidateKeysStream =
        Pin<Box<dyn Stream<Item = Result<v1::StreamValidateKeysResponse, Status>> + Send>>;

    async fn validate_key(
        &self,
        _: Request<v1::ValidateKeyRequest>,
    ) -> Result<Response<v1::ValidateKeyResponse>, Status> {
        Ok(Response::new(v1::ValidateKeyResponse::default()))
    }

    async fn batch_validate_keys(
        &self,
        _: Request<v1::BatchValidateKeysRequest>,
    ) -> Result<Response<v1::BatchValidateKeysResponse>, Status> {
        Err(Status::unimplemented("only ValidateKey"))
    }

    async fn stream_validate_keys(
        &self,
        _: Request<Streaming<v1::StreamValidateKeysRequest>>,
    ) -> Result<Response<Self::StreamValidateKeysStream>, Status> {
        Err(Status::unimplemented("only ValidateKey"))
    }

    async fn validate_session(
        &self,
        _: Request<v1::ValidateSessionRequest>,
    ) -> Result<Response<v1::ValidateSessionResponse>, Status> {
        Err(Status::unimplemented("only ValidateKey"))
    }
}
