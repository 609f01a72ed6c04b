//! Client of the tenant-auth gRPC service.
