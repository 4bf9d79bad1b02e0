//! How somebody else tests a controller with a lab: not whether it wrote the right object, but whether clients are served.

#[allow(unreachable_pub, reason = "as an example it is public")]
#[path = "../examples/controller.rs"]
mod controller;

use minisvc_testing::{Error, Lab};

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop, annotations: {example.com/expose: '8080'}}
spec:
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: echo, image: minisvc/echo}]
";

#[tokio::test]
async fn an_annotated_deployment_is_served_as_long_as_it_is_annotated() -> Result<(), Error> {
    let lab = Lab::start().await?;
    // The controller runs in this very process: a debugger and a panic's backtrace work as ever.
    let controller = tokio::spawn(controller::run(lab.client()));

    lab.apply(DEPLOYMENT).await?;
    lab.wait_ready("service/shop").await?;
    let answer = lab.http_get_until("http://shop/cart", |answer| answer.status == 200).await?;
    assert!(answer.body.ends_with("ask GET /cart"), "{answer:?}");

    lab.apply(&DEPLOYMENT.replace("example.com/expose: '8080'", "")).await?;
    let mut gone = false;
    for _ in 0..500 {
        gone = lab.http_get("http://shop").await.is_err();
        if gone {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(gone, "the name is still there");
    assert!(!controller.is_finished(), "the controller goes on");
    Ok(())
}
