//! A minisvc lab inside a test.
//!
//! [`Lab::start`] starts the `minisvc` program with a state folder of its own, a free API port and no name server outside,
//! and gives a [`kube::Client`] for it. Pods are local processes, so a Service that your controller makes can be asked for
//! real, from inside of the lab. When the value is dropped the lab goes, also when the test panics; when the test's process
//! is killed it goes too. Labs know nothing of each other: as many tests as you like may run at once, all with the same
//! names and addresses inside.
//!
//! ```no_run
//! # use std::error::Error;
//! use k8s_openapi::api::core::v1::Service;
//! use kube::Api;
//! use minisvc_testing::Lab;
//!
//! // #[tokio::test]
//! async fn the_shop_answers() -> Result<(), Box<dyn Error>> {
//!     let lab = Lab::start().await?;
//!     lab.apply(include_str!("../tests/web.yaml")).await?;
//!     lab.wait_ready("deployment/web").await?;
//!
//!     let services: Api<Service> = Api::default_namespaced(lab.client());
//!     assert!(services.get("web").await?.spec.is_some());
//!
//!     let answer = lab.http_get_until("http://web", |answer| answer.status == 200).await?;
//!     assert!(answer.body.contains("saw 10.95.0.1"), "{}", answer.body);
//!     Ok(())
//! }
//! ```
//!
//! # Where the program comes from
//!
//! In this order, and the first that exists is taken:
//!
//! 1. what [`Builder::program`] says;
//! 2. the environment variable `MINISVC_PROGRAM`;
//! 3. `CARGO_BIN_EXE_minisvc`, which cargo sets for tests of the package that has the program;
//! 4. beside the running test: in the `target` folder where cargo put the test, for tests of the same workspace;
//! 5. `PATH`: `cargo install --path cli` in minisvc's folder puts it there.
//!
//! If there is none, [`Error::NoProgram`] names every place that was tried.
//!
//! # What it needs
//!
//! What `minisvc doctor` says is there: Linux, `/dev/net/tun`, and root or user namespaces. No container runtime, no image
//! and no network.

mod builder;
mod client;
mod error;
mod lab;
mod process;
mod program;
mod ready;

pub use builder::{Builder, IpFamily};
pub use error::Error;
pub use lab::{Lab, Response};
