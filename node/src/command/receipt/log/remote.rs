//! A log somewhere, read over HTTP: nothing that comes is longer than it may be, nor believed before it leads to a signed head.

use std::{fmt, ops::Range, time::Duration};

use anyhow::{Context as _, bail};
use attribution::log::{
    checkpoint::Checkpoint,
    entry,
    note::NOTE_BYTES_MAX,
    tile::{Resource, TILE_BYTES_MAX, Tile, Tiles},
    tree::{TILE_WIDTH, consistency_ranges},
};
use futures::{StreamExt as _, TryStreamExt as _};
use reqwest::{Client, StatusCode, Url, redirect::Policy};
use types::id::NodeId;

use crate::witnessing::{self, prefix, read};

/// Longest that one question may take.
const ASK_WAIT: Duration = Duration::from_secs(20);
/// Bundles asked for at once.
const AT_ONCE: usize = 8;
/// Newest entries that are looked through for a receipt: 4,600 a day for ten years. A log says itself how many it has.
pub(super) const SEARCHED_MAX: u64 = 1 << 24;

/// A log or a witness at an address.
#[derive(Debug)]
pub(super) struct Remote {
    base: Url,
    client: Client,
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.base.as_str().trim_end_matches('/'))
    }
}

impl Remote {
    /// At `url`, the prefix of its paths.
    pub(super) fn new(url: &str) -> anyhow::Result<Self> {
        let base = prefix(url)?;
        let client = Client::builder().timeout(ASK_WAIT).redirect(Policy::none()).build().context("no HTTP client")?;
        Ok(Self { base, client })
    }

    /// Body of a path; nothing if there is none.
    async fn get(&self, path: &str, most: usize) -> anyhow::Result<Option<Vec<u8>>> {
        let url = self.base.join(path).with_context(|| format!("{self}/{path}"))?;
        let response = self.client.get(url).send().await.with_context(|| format!("{self}/{path}: the log does not answer"))?;
        match response.status() {
            StatusCode::OK => read(response, most).await.with_context(|| format!("{self}/{path}")).map(Some),
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
            status => bail!("{self}/{path}: the log answers {status}"),
        }
    }

    /// The newest head, signed by `node`.
    pub(super) async fn checkpoint(&self, node: NodeId) -> anyhow::Result<Checkpoint> {
        let bytes = self.get("checkpoint", NOTE_BYTES_MAX).await?;
        let bytes = bytes.with_context(|| format!("{self} serves no checkpoint: no receipt log is there"))?;
        Checkpoint::open(&bytes, node).with_context(|| format!("{self}/checkpoint"))
    }

    /// A tile or bundle of a tree, or the first `width` of the full one that took its place.
    async fn resource(&self, resource: Resource, most: usize) -> anyhow::Result<Vec<u8>> {
        if let Some(bytes) = self.get(&resource.to_string(), most).await? {
            return Ok(bytes);
        }
        let (Resource::Tile(tile) | Resource::Entries(tile)) = resource;
        let full = Tile::at(tile.level(), tile.index(), u64::MAX).filter(|full| *full != tile);
        if let (Resource::Tile(_), Some(full)) = (resource, full)
            && let Some(mut bytes) = self.get(&Resource::Tile(full).to_string(), most).await?
        {
            bytes.truncate(32 * usize::from(tile.width()));
            return Ok(bytes);
        }
        bail!("{self}/{resource} is missing: the head that the log signed covers it")
    }

    /// The tiles that roots over `ranges` of the first `size` entries need.
    pub(super) async fn tiles(&self, size: u64, ranges: &[Range<u64>]) -> anyhow::Result<Tiles> {
        let mut tiles = Tiles::new(size);
        let asked = tiles
            .needed(ranges)
            .into_iter()
            .map(|tile| async move { anyhow::Ok((tile, self.resource(Resource::Tile(tile), TILE_BYTES_MAX).await?)) });
        let found: Vec<(Tile, Vec<u8>)> = futures::stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
        for (tile, bytes) in found {
            tiles.insert(tile, &bytes).with_context(|| self.to_string())?;
        }
        Ok(tiles)
    }

    /// The number of an entry among the first `size`, newest first; nothing if it is not among the newest [`SEARCHED_MAX`] of them.
    pub(super) async fn find(&self, wanted: &[u8], size: u64) -> anyhow::Result<Option<u64>> {
        let asked = searched(size).map(|tile| async move {
            let path = Resource::Entries(tile);
            let bytes = self.resource(path, entry::BUNDLE_BYTES_MAX).await?;
            let entries = entry::entries(&bytes, tile.width()).with_context(|| format!("{self}/{path}"))?;
            let place = entries.iter().position(|entry| *entry == wanted);
            anyhow::Ok(place.map(|place| tile.entries().start + place as u64))
        });
        let mut found = std::pin::pin!(futures::stream::iter(asked).buffered(AT_ONCE));
        while let Some(place) = found.try_next().await? {
            if place.is_some() {
                return Ok(place);
            }
        }
        Ok(None)
    }

    /// Asks the witness that is here to cosign a head of the log at `log`: what it cosigned last is learned from it.
    pub(super) async fn cosign(&self, log: &Self, checkpoint: &Checkpoint) -> anyhow::Result<String> {
        let size = checkpoint.head.size;
        let consistency = async |old| {
            let Some(ranges) = consistency_ranges(old, size) else { return Ok(None) };
            Ok(Some(log.tiles(size, &ranges).await?.consistency(old)?))
        };
        witnessing::cosign(&self.client, &self.base, checkpoint, consistency).await
    }
}

/// The bundles that are looked through, newest first.
fn searched(size: u64) -> impl Iterator<Item = Tile> {
    let bundles = size.div_ceil(TILE_WIDTH);
    (bundles.saturating_sub(SEARCHED_MAX / TILE_WIDTH)..bundles).rev().filter_map(move |index| Tile::at(0, index, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_says_it_is_endless_is_searched_to_an_end() {
        let of = |size| searched(size).map(|tile| tile.entries()).collect::<Vec<_>>();
        assert_eq!(of(0), []);
        assert_eq!(of(300), [256..300, 0..256]);
        for size in [SEARCHED_MAX + 1, 1 << 50, u64::MAX] {
            let found = of(size);
            assert_eq!((found.len() as u64, found[0].end), (SEARCHED_MAX / TILE_WIDTH, size), "{size}");
        }
    }
}
