//! How requests arrive from outside: TLS and a Unix socket, and who is asking.
//!
//! It knows nothing about resources: it ends with a request that carries an [`Identity`](crate::Identity), or
//! with a refusal. There is no plain HTTP over TCP here, on purpose: whoever may write Pods may start processes.

mod authenticate;
mod ca;
mod connection;
mod files;
mod kubeconfig;
mod listen;
mod token;

pub use authenticate::{Authenticator, FindServiceAccount};
pub(crate) use authenticate::{TokenReview, account_groups, account_of_user};
pub use ca::{Ca, CaError, ClientCertificate, ServerNames};
pub use listen::{serve_tls, serve_unix};
pub(crate) use token::user_name as account_user;
pub use token::{Bound, Claims, Reference, TokenError, TokenRequest, TokenSigner};
