//! An endpoint behind a bad line: connections that end in the middle of an answer, and for a while none at all.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use chain_bridge::{
    chain::{Chain as _, error::ChainError},
    client::ChainClient,
    follow::Follower,
    registry::{Event, State},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use types::{amount::Amount, id::Hash32};

use super::harness::{World, open};

const PATIENCE: Duration = Duration::from_secs(40);

/// A line to the chain that carries so many bytes of answers a connection and then breaks.
struct Line {
    url: String,
    is_down: Arc<AtomicBool>,
    /// Whether connections break at all.
    is_bad: Arc<AtomicBool>,
    broken: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Line {
    async fn to(url: &str) -> Self {
        let target = url.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (is_down, is_bad, broken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (down, bad, count) = (Arc::clone(&is_down), Arc::clone(&is_bad), Arc::clone(&broken));
        let task = tokio::spawn(async move {
            for connection in 0_u64.. {
                let (client, _) = listener.accept().await.unwrap();
                if down.load(Ordering::Relaxed) {
                    count.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                let Ok(server) = TcpStream::connect(&target).await else { continue };
                // From 1 kB, in the middle of the first answers, to some 60 kB.
                let left = if bad.load(Ordering::Relaxed) { 1_000 + connection * 7_919 % 60_000 } else { u64::MAX };
                let (down, count) = (Arc::clone(&down), Arc::clone(&count));
                tokio::spawn(async move {
                    carry(client, server, left, &down).await;
                    count.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        Self { url, is_down, is_bad, broken, task }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Carries bytes both ways until one side ends, the line goes down, or `left` bytes of answers have passed.
async fn carry(mut client: TcpStream, mut server: TcpStream, mut left: u64, is_down: &AtomicBool) {
    let (mut ask, mut answer) = ([0; 4_096], [0; 4_096]);
    while !is_down.load(Ordering::Relaxed) {
        tokio::select! {
            read = client.read(&mut ask) => match read {
                Ok(size @ 1..) => if server.write_all(&ask[..size]).await.is_err() { return },
                _ => return,
            },
            read = server.read(&mut answer) => match read {
                Ok(size @ 1..) => {
                    let size = size.min(usize::try_from(left).unwrap_or(usize::MAX));
                    if client.write_all(&answer[..size]).await.is_err() { return }
                    left -= size as u64;
                    if left == 0 { return }
                }
                _ => return,
            },
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
    }
}

#[tokio::test]
async fn over_a_line_that_breaks_the_books_are_the_chains_and_what_happens_once_happens_once() {
    let world = World::start().await;
    let direct = world.clients(2).await;
    let line = Line::to(world.devnet.url()).await;
    let account = direct[1].account("sign").unwrap().clone();
    let over = ChainClient::connect(&line.url, world.devnet.deployment().clone(), Some(account)).await.unwrap();
    let follower = Follower::start(over.clone(), world.devnet.deployment().block, Duration::from_millis(50));
    follower.wait_for(PATIENCE, |seen| seen.is_current()).await.unwrap();

    line.is_bad.store(true, Ordering::Relaxed);
    // The connection that is open already is a good one: end it.
    line.is_down.store(true, Ordering::Relaxed);
    let down = follower.wait_for(PATIENCE, |seen| seen.problem.is_some()).await.unwrap();
    assert!(!down.is_halted && down.problem.as_deref().is_some_and(|problem| problem.contains(&line.url)), "{:?}", down.problem);
    let payer = direct[0].address().unwrap();
    direct[0].deposit(open(2)).await.unwrap();
    assert_eq!(follower.snapshot().latest.free(payer), Amount::ZERO, "nothing is known of what happened meanwhile");
    line.is_down.store(false, Ordering::Relaxed);

    // A commitment has a key: it is asked for until it is there, over whatever line.
    let committed = Hash32([0x77; 32]);
    let mut tries = 0;
    loop {
        tries += 1;
        match over.commit(committed).await {
            Ok(_) => break,
            Err(ChainError::Down { .. } | ChainError::Rpc { .. } | ChainError::Unreadable { .. }) if tries < 60 => {}
            Err(error) => panic!("try {tries}: {error}"),
        }
    }
    for amount in 3..9 {
        direct[0].deposit(open(amount)).await.unwrap();
    }
    let all = open((2..9).sum());
    let seen = follower.wait_for(PATIENCE, |seen| seen.is_current() && seen.latest.free(payer) == all).await;
    let seen = seen.unwrap_or_else(|| panic!("not caught up: {:?}", follower.snapshot().problem));
    let events = direct[0].events(0, seen.tip.number).await.unwrap();
    let mut state = State::default();
    events.iter().for_each(|event| state.apply(event).unwrap());
    assert!(*seen.latest == state, "the books are not the chain's");
    let of_key = events.iter().filter(|logged| matches!(&logged.event, Event::Committed { commitment, .. } if *commitment == committed));
    assert_eq!(of_key.count(), 1);
    let broken = line.broken.load(Ordering::Relaxed);
    assert!(broken > 10, "only {broken} connections broke: the line was too good");
    follower.stop().await;
}
