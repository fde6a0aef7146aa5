//! The asynchronous service of the examples survives hostile requests while others are answered.

#[allow(dead_code)]
#[path = "../examples/service.rs"]
mod service;

#[tokio::test(flavor = "multi_thread")]
async fn hostile_requests_beside_good_ones() {
    service::demo(10).await.expect("the service answers");
}
