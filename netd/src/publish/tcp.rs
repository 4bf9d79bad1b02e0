//! One published TCP port.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::{Exposure, Shared};

/// Pause after an accept that failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections of one port at once; further ones wait to be accepted.
const LIMIT: usize = 1024;

/// Bytes on their way, in each direction of each connection.
const BUFFER: usize = 32 * 1024;

/// How long the lab's side may take to answer.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);

/// Serves the port until it is aborted. Connections are tasks of their own: they outlive the listener, as flows do.
pub(super) async fn serve(listener: TcpListener, exposure: Exposure, shared: Arc<Shared>) {
    let room = Arc::new(tokio::sync::Semaphore::new(LIMIT));
    loop {
        // It is never closed.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((outer, _)) => {
                let (exposure, shared_too) = (exposure.clone(), Arc::clone(&shared));
                shared.connections.spawn(async move {
                    let _place = place;
                    let shutdown = shared_too.shutdown.clone();
                    let _ended = shutdown.run_until_cancelled(connect(outer, &exposure, &shared_too)).await;
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a published port cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connect(mut outer: TcpStream, exposure: &Exposure, shared: &Shared) {
    let dialled = async { shared.dialer.connect(shared.target(exposure).await?).await };
    let mut inner = match tokio::time::timeout(CONNECT_WITHIN, dialled).await {
        Ok(Ok(inner)) => inner,
        refused => {
            tracing::debug!(service = exposure.service, target = %exposure.target, ?refused, "a published port is refused");
            // The machine has accepted the connection already: a RST is the refusal that is left.
            let _ = outer.set_zero_linger();
            return;
        }
    };
    for stream in [&outer, &inner] {
        // A connection that is being reset refuses it, and says so when it is read.
        let _ = stream.set_nodelay(true);
    }
    // Ends when both directions have; a reset of one side is passed on.
    if tokio::io::copy_bidirectional_with_sizes(&mut outer, &mut inner, BUFFER, BUFFER).await.is_err() {
        let _ = outer.set_zero_linger();
        let _ = inner.set_zero_linger();
    }
}
