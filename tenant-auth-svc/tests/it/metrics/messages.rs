//! Messages of streams, which are counted as they come.

use crate::harness::{
    TestDatabase, TestService,
    scrape::{Scrape, in_flight_series, rpc_labels, verdicts_series},
    stream_request,
};

#[tokio::test]
async fn stream_messages_are_counted_while_stream_is_open() {
    let service = TestService::start(&TestDatabase::embedded()).await;
    let (questions, asked) = tokio::sync::mpsc::channel(1);
    let asked = tokio_stream::wrappers::ReceiverStream::new(asked);
    let mut stream = service.validation().stream_validate_keys(asked).await.unwrap().into_inner();
    let stream_rpc = "tenantauth.v1.ValidationService/StreamValidateKeys";
    for id in 1..=3_u32 {
        questions.send(stream_request(id.into(), "!")).await.unwrap();
        stream.message().await.unwrap().unwrap();
        let scrape = Scrape::collect(&service).await;
        scrape.assert_value(&verdicts_series("malformed"), f64::from(id));
        for messages in ["received", "sent"] {
            let series = format!("grpc_server_msg_{messages}_total{{{}}}", rpc_labels(stream_rpc));
            scrape.assert_value(&series, f64::from(id));
        }
        scrape.assert_value(&in_flight_series("tenantauth.v1.ValidationService/StreamValidateKeys"), 1.0);
    }
}
