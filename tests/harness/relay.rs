//! A way to the chain that can be cut: what a node sees when its RPC endpoint goes away and comes back.

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// Carries TCP connections to one address on loopback, while it is whole; ends with its handle.
#[derive(Debug)]
pub struct Relay {
    url: String,
    is_whole: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Relay {
    /// A relay to the endpoint of `url`, which is `http://HOST:PORT`.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn to(url: &str) -> Self {
        let target = url.strip_prefix("http://").expect("a plain endpoint").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let own = listener.local_addr().expect("it is bound");
        let (is_whole, watched) = watch::channel(true);
        let task = tokio::spawn(carry(listener, target, watched));
        Self { url: format!("http://{own}"), is_whole, task }
    }

    /// Where it is reached.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Cuts every connection and takes no other.
    pub fn cut(&self) {
        self.is_whole.send_replace(false);
    }

    /// Takes connections again.
    pub fn mend(&self) {
        self.is_whole.send_replace(true);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(listener: TcpListener, target: String, is_whole: watch::Receiver<bool>) {
    while let Ok((mut near, _)) = listener.accept().await {
        let (target, mut is_whole) = (target.clone(), is_whole.clone());
        // Dropping the accepted connection is what a dead endpoint's machine does to it.
        if !*is_whole.borrow() {
            continue;
        }
        tokio::spawn(async move {
            let Ok(mut far) = TcpStream::connect(target).await else { return };
            tokio::select! {
                _ = copy_bidirectional(&mut near, &mut far) => {}
                _ = is_whole.wait_for(|is_whole| !is_whole) => {}
            }
        });
    }
}
