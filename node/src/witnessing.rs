//! Asking a witness over HTTP to cosign a head (tlog-witness): by whoever reads a log, and by a node of its own.
//!
//! The witness says how many entries the head has that it cosigned last, and is shown that this one goes on from there. Two questions, each bounded in time
//! and bytes; nothing that it answers is believed before its signature is verified.

use std::{fmt, str::FromStr};

use anyhow::{Context as _, bail, ensure};
use attribution::log::{LogHash, checkpoint::Checkpoint, note::NOTE_BYTES_MAX, witness::AddCheckpoint};
use reqwest::{Client, Response, StatusCode, Url};
use serde::{Deserialize, Serialize};
use types::id::NodeId;

/// Longest reason of a refusal that is told.
const WHY_BYTES_MAX: usize = 400;

/// A witness, and where it is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Witness {
    /// Whose cosignature it is.
    pub node: NodeId,
    /// The prefix of its paths.
    pub url: Url,
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.node, self.url.as_str().trim_end_matches('/'))
    }
}

impl From<Witness> for String {
    fn from(witness: Witness) -> Self {
        witness.to_string()
    }
}

impl TryFrom<String> for Witness {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Witness {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fix = |why: String| format!("{text:?} is no witness ({why}): write NODE_ID@http://ADDRESS");
        let (node, url) = text.split_once('@').ok_or_else(|| fix("it names no address".to_owned()))?;
        let node = node.parse().map_err(|error| fix(format!("{error}")))?;
        Ok(Self { node, url: prefix(url).map_err(|error| fix(error.to_string()))? })
    }
}

/// The prefix of a log's or a witness's paths.
///
/// # Errors
/// That it is none.
pub fn prefix(url: &str) -> anyhow::Result<Url> {
    let fix = || format!("{url:?} is no address of a log: write for example http://127.0.0.1:7404");
    let base = Url::parse(&format!("{}/", url.trim_end_matches('/'))).with_context(fix)?;
    ensure!(matches!(base.scheme(), "http" | "https") && base.has_host(), "{}", fix());
    Ok(base)
}

/// What a witness said.
enum Said {
    /// Its signature lines.
    Cosigned(String),
    /// How many entries the head has that it cosigned last.
    Last(u64),
}

/// Asks the witness at `at` to cosign a head; `consistency` shows how it goes on from so many entries, nothing if it has fewer. Its signature lines, unverified.
///
/// # Errors
/// That it does not answer or refuses, in its words; that it has cosigned what this head does not go on from.
pub async fn cosign(
    client: &Client,
    at: &Url,
    checkpoint: &Checkpoint,
    consistency: impl AsyncFnOnce(u64) -> anyhow::Result<Option<Vec<LogHash>>>,
) -> anyhow::Result<String> {
    let (size, shown) = (checkpoint.head.size, at.as_str().trim_end_matches('/'));
    let ask = |old, proof| AddCheckpoint { old, proof, note: checkpoint.note.clone() };
    let old = match add(client, at, &ask(0, Vec::new())).await? {
        Said::Cosigned(lines) => return Ok(lines),
        Said::Last(old) => old,
    };
    let Some(proof) = consistency(old).await? else {
        bail!(
            "the witness {shown} says that it cosigned a head of {old} entries, the log shows {size}: it shows an old head here, entries were taken back, or the witness lies: it shows no signature"
        );
    };
    match add(client, at, &ask(old, proof)).await? {
        Said::Cosigned(lines) => Ok(lines),
        Said::Last(last) if last == old => {
            // Its word, and no signed head: who is accused is not to be decided by it.
            bail!(
                "the witness {shown} says that it cosigned another head of {old} entries than the log shows here: either THE LOG FORKED or the witness lies. It shows no signature; \
                 ask another one, and whoever has that head for it"
            )
        }
        Said::Last(last) => bail!("the witness {shown} cosigned a head of {last} entries meanwhile: ask again"),
    }
}

async fn add(client: &Client, at: &Url, request: &AddCheckpoint) -> anyhow::Result<Said> {
    let shown = at.as_str().trim_end_matches('/');
    let response = client.post(at.join("add-checkpoint")?).body(request.to_string()).send().await;
    let response = response.with_context(|| format!("{shown}/add-checkpoint: the witness does not answer"))?;
    let status = response.status();
    let most = if status == StatusCode::OK { NOTE_BYTES_MAX } else { WHY_BYTES_MAX };
    let text = String::from_utf8(read(response, most).await.with_context(|| format!("{shown}/add-checkpoint"))?)?;
    match status {
        StatusCode::OK => Ok(Said::Cosigned(text)),
        StatusCode::CONFLICT => {
            let size = text.trim_end().parse().with_context(|| format!("{shown}/add-checkpoint: 409 and no number of entries"))?;
            Ok(Said::Last(size))
        }
        status => bail!("the witness {shown} does not cosign this head ({status}): {}", text.trim_end()),
    }
}

/// A body of at most so many bytes.
///
/// # Errors
/// That it is longer, or broke off.
pub async fn read(mut response: Response, most: usize) -> anyhow::Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(chunk) = response.chunk().await.context("the answer broke off")? {
        ensure!(all.len() + chunk.len() <= most, "the answer has more than {most} bytes");
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_is_a_node_and_an_address_and_what_is_none_is_refused_with_the_form() {
        let node = "ab".repeat(32);
        let witness: Witness = format!("{node}@http://203.0.113.6:7404/").parse().unwrap();
        assert_eq!(witness.to_string(), format!("{node}@http://203.0.113.6:7404"));
        assert_eq!(witness.to_string().parse(), Ok(witness));
        for bad in [node.clone(), format!("{node}@"), format!("{node}@nowhere"), format!("{node}@ftp://host/"), "1@http://host".to_owned()]
        {
            let error = bad.parse::<Witness>().unwrap_err();
            assert!(error.contains("write NODE_ID@http://ADDRESS"), "{bad}: {error}");
        }
    }
}
