//! A shard on its way: what is known of it between two steps. Its rows stay in its file, which is opened only if the gate says something of a row.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context as _;
use chain_bridge::registry::state::Accepted;
use storage::{
    datanet::{Document, contribution_text, private, shard},
    erasure::Encoded,
};
use types::{
    contribution::{GateReport, Priority},
    id::{Address, Hash32},
    key::Signed,
};

use super::{
    cut::{Spot, spots, stretches},
    findings::Finding,
    journal::{Cut, read_documents, read_shard},
    placed::Facts,
    rows::{Dropped, Rows},
};

/// The shard.
pub(super) struct Way {
    pub(super) cut: Cut,
    file: PathBuf,
    names: Arc<Vec<String>>,
    /// Its rows, once the gate has refused some; else they are those of the file.
    left: Option<Arc<Rows>>,
    /// Root of the rows as they are now.
    plain: Hash32,
    /// What a contribution states of these rows under a salt, if that was asked.
    salted: Option<(Hash32, Text)>,
    /// How often rows were taken out.
    pub(super) rounds: usize,
    /// Records of its commitments, by plain root: they go when it lies where it belongs.
    pub(super) records: Vec<Hash32>,
    /// What the chain has of it already.
    pub(super) earlier: Option<Accepted>,
    pub(super) committed: Option<Committed>,
    pub(super) passed: Option<Box<Passed>>,
    pub(super) accepted: Option<(Facts, Encoded)>,
    pub(super) remarks: Remarks,
}

/// A commitment on the chain.
#[derive(Clone, Copy)]
pub(super) struct Committed {
    /// The root that is committed to: the salted one, if the Datanet is private.
    pub(super) root: Hash32,
    pub(super) salt: Hash32,
    pub(super) text_salt: Option<Hash32>,
    pub(super) priority: Priority,
}

/// What the gate let in, and what is stored of it.
pub(super) struct Passed {
    pub(super) verdict: Signed<GateReport>,
    pub(super) object: Vec<u8>,
    pub(super) encoded: Encoded,
    pub(super) text: Text,
}

/// What a contribution states of its text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text {
    pub(super) bytes: u64,
    pub(super) documents: u32,
    /// What opens its root.
    pub(super) top: Hash32,
}

/// What was said of a shard's rows.
#[derive(Debug, Default)]
pub(super) struct Remarks {
    pub(super) notes: Vec<Finding>,
    pub(super) approved_by: Vec<Address>,
}

/// Work that needs no thread of the runtime.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> anyhow::Result<T> + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("a thread")?
}

impl Way {
    /// A shard as it was cut into `file`, of which an earlier run has left `records` and the chain may have `earlier`.
    pub(super) fn new(cut: Cut, file: PathBuf, names: Arc<Vec<String>>, records: Vec<Hash32>, earlier: Option<Accepted>) -> Self {
        Self {
            file,
            names,
            left: None,
            plain: cut.text_root,
            salted: None,
            cut,
            rounds: 0,
            records,
            earlier,
            committed: None,
            passed: None,
            accepted: None,
            remarks: Remarks::default(),
        }
    }

    /// Root of its rows as they are now.
    pub(super) const fn plain(&self) -> Hash32 {
        self.plain
    }

    /// Documents in it.
    pub(super) fn documents(&self) -> usize {
        self.left.as_ref().map_or_else(|| usize::try_from(self.cut.documents).unwrap_or(usize::MAX), |rows| rows.documents.len())
    }

    /// Its rows.
    pub(super) async fn rows(&self) -> anyhow::Result<Arc<Rows>> {
        if let Some(rows) = &self.left {
            return Ok(Arc::clone(rows));
        }
        let (file, cut, names) = (self.file.clone(), self.cut.clone(), Arc::clone(&self.names));
        let reading = blocking(move || {
            let documents = read_documents(&file, &cut)?;
            Ok(Rows { documents, spots: spots(&cut.stretches), names, dropped: cut.dropped, redacted: cut.redacted })
        });
        Ok(Arc::new(reading.await?))
    }

    /// The files' names.
    pub(super) fn names(&self) -> Arc<Vec<String>> {
        Arc::clone(&self.names)
    }

    /// Where its rows stand in the files.
    pub(super) fn stretches(&self) -> Vec<(Spot, u32)> {
        self.left.as_ref().map_or_else(|| self.cut.stretches.clone(), |rows| stretches(&rows.spots))
    }

    /// What was left out of it.
    pub(super) fn dropped(&self) -> Vec<Dropped> {
        self.left.as_ref().map_or_else(|| self.cut.dropped.clone(), |rows| rows.dropped.clone())
    }

    /// What reads the documents it was cut with, on whatever thread.
    pub(super) fn reading(&self) -> impl FnOnce() -> anyhow::Result<Vec<Document>> + Send + use<> {
        let (file, cut) = (self.file.clone(), self.cut.clone());
        move || read_documents(&file, &cut)
    }

    /// From now on it has these rows, fewer than before.
    pub(super) async fn keep(&mut self, rows: Rows) -> anyhow::Result<()> {
        let (rows, plain) = blocking(move || {
            let plain = rows.text_root();
            Ok((rows, plain))
        })
        .await?;
        (self.left, self.plain, self.salted, self.committed) = (Some(Arc::new(rows)), plain, None, None);
        self.rounds += 1;
        Ok(())
    }

    /// The root of its text under a salt. What opens that root is kept for when it is shown.
    pub(super) async fn salted(&mut self, salt: Hash32) -> anyhow::Result<Hash32> {
        let rows = self.rows().await?;
        let hashing = blocking(move || {
            let text = contribution_text(&rows.documents);
            let top = private::top(text.as_bytes(), Some(salt));
            let stated = Text { bytes: text.len() as u64, documents: u32::try_from(rows.documents.len())?, top };
            Ok((private::root_over(text.len(), top), stated))
        });
        let (root, stated) = hashing.await?;
        self.salted = Some((salt, stated));
        Ok(root)
    }

    /// What a contribution states of its text, as far as nothing is to be hashed for it.
    fn stated(&self, text_salt: Option<Hash32>) -> Option<Text> {
        match text_salt {
            Some(salt) => self.salted.filter(|(of, _)| *of == salt).map(|(_, text)| text),
            None => {
                let derived = self.cut.derived.filter(|_| self.left.is_none())?;
                Some(Text { bytes: self.cut.text_bytes, documents: self.cut.documents, top: derived.text_top })
            }
        }
    }

    /// The shard as the gate is to see it, and what a contribution states of its text.
    pub(super) async fn shown(&self, text_salt: Option<Hash32>) -> anyhow::Result<(Vec<u8>, Text)> {
        let stated = self.stated(text_salt);
        // The file stays what is shown, whatever this version would write: what was stored of it before is found by it.
        let file = self.left.is_none().then(|| (self.file.clone(), self.cut.clone()));
        let (file, stated) = match (file, stated) {
            (Some((file, cut)), Some(text)) => return blocking(move || Ok((read_shard(&file, &cut)?, text))).await,
            unknown => unknown,
        };
        let rows = self.rows().await?;
        blocking(move || {
            let bytes = match file {
                Some((file, cut)) => read_shard(&file, &cut)?,
                None => shard::encode(&rows.documents)?,
            };
            if let Some(text) = stated {
                return Ok((bytes, text));
            }
            let text = contribution_text(&rows.documents);
            let top = private::top(text.as_bytes(), text_salt);
            Ok((bytes, Text { bytes: text.len() as u64, documents: u32::try_from(rows.documents.len())?, top }))
        })
        .await
    }
}
