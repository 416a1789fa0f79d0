//! Files of a folder that somebody else made: what its paths and links name must lie in it.
//!
//! A snapshot in the cache of Hugging Face (`REPOSITORY/snapshots/REVISION`) holds links to `REPOSITORY/blobs` alone: these are followed, a file right
//! there and no further. Any other link that leads out of the folder is not.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};

use super::left_out::LeftOut;
use crate::words;

/// Most files that are looked through, and how deep.
const LISTED_MAX: usize = 1 << 16;
const DEPTH_MAX: usize = 16;

/// The folder.
#[derive(Debug)]
pub(super) struct Within {
    folder: PathBuf,
    real: PathBuf,
    /// Where the snapshots of its repository keep their files.
    blobs: Option<PathBuf>,
}

/// What lies in it.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Paths below the folder, parts by `/`, in the order of their names.
    pub(super) files: Vec<String>,
    /// Hidden names, links that are not followed and what is no file, by such paths.
    pub(super) left_out: Vec<LeftOut>,
}

fn real(path: &Path) -> anyhow::Result<PathBuf> {
    path.canonicalize().with_context(|| format!("{}: cannot be read", words::path(path)))
}

impl Within {
    pub(super) fn new(folder: &Path) -> anyhow::Result<Self> {
        let real = real(folder)?;
        let snapshots = real.parent().filter(|parent| parent.file_name().is_some_and(|name| name == "snapshots"));
        let blobs = snapshots.and_then(Path::parent).map(|repository| repository.join("blobs"));
        // A link in the place of the blobs would lead anywhere.
        let blobs = blobs.filter(|blobs| blobs.canonicalize().is_ok_and(|there| there == *blobs));
        Ok(Self { folder: folder.to_owned(), real, blobs })
    }

    fn holds(&self, place: &Path) -> bool {
        place.starts_with(&self.real) || self.blobs.as_deref().is_some_and(|blobs| place.parent() == Some(blobs))
    }

    /// The name of the folder itself.
    pub(super) fn name(&self) -> String {
        self.real.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// A file by its path below the folder.
    pub(super) fn file(&self, path: &str) -> anyhow::Result<PathBuf> {
        let place = self.folder.join(path);
        let there = real(&place)?;
        ensure!(self.holds(&there), "{path:?} leads out of {}: files beside the description are read only", words::path(&self.folder));
        ensure!(there.is_file(), "{}: not a regular file", words::path(&place));
        Ok(place)
    }

    /// A file by its name in the folder, if it is there.
    pub(super) fn beside(&self, name: &str) -> anyhow::Result<Option<PathBuf>> {
        // A link that leads nowhere is there.
        match fs::symlink_metadata(self.folder.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            _ => self.file(name).map(Some),
        }
    }

    /// All files but hidden ones, which are told.
    pub(super) fn list(&self) -> anyhow::Result<Listing> {
        let mut listing = Listing::default();
        self.list_below("", 0, &mut listing)?;
        Ok(listing)
    }

    fn list_below(&self, below: &str, depth: usize, listing: &mut Listing) -> anyhow::Result<()> {
        let here = self.folder.join(below);
        if depth > DEPTH_MAX {
            bail!("{}: folders are nested deeper than {DEPTH_MAX}", words::path(&here));
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(&here).with_context(|| format!("{}: cannot be read", words::path(&here)))? {
            let entry = entry?;
            names.push((entry.file_name().to_string_lossy().into_owned(), entry.file_type()?));
            ensure!(names.len() + listing.files.len() <= LISTED_MAX, "{}: more than {LISTED_MAX} files", words::path(&self.folder));
        }
        names.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, kind) in names {
            let is_hidden = name.starts_with('.');
            let path = if below.is_empty() { name } else { format!("{below}/{name}") };
            if is_hidden {
                listing.left_out.push(LeftOut::hidden(path));
            } else if kind.is_dir() {
                self.list_below(&path, depth + 1, listing)?;
            } else if kind.is_file() {
                listing.files.push(path);
            } else if !kind.is_symlink() {
                listing.left_out.push(LeftOut::new(path, "not a regular file"));
            } else {
                self.follow(path, listing);
            }
        }
        Ok(())
    }

    fn follow(&self, path: String, listing: &mut Listing) {
        let why = match self.folder.join(&path).canonicalize() {
            Err(_) => "a link that leads nowhere: download what it names",
            Ok(there) if !self.holds(&there) => "a link that leads out of the folder: put the file itself here",
            Ok(there) if !there.is_file() => "a link to what is no file: put the files themselves here",
            Ok(_) => return listing.files.push(path),
        };
        listing.left_out.push(LeftOut::new(path, why));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// As `huggingface_hub` lays out its cache.
    #[test]
    fn links_of_a_snapshot_are_followed_to_its_own_blobs_and_nowhere_else() {
        let outer = tempfile::tempdir().unwrap();
        let repository = outer.path().join("hub/datasets--me--tides");
        let snapshot = repository.join("snapshots/0a1b");
        fs::create_dir_all(repository.join("blobs/deep")).unwrap();
        fs::create_dir_all(snapshot.join("data")).unwrap();
        fs::write(repository.join("blobs/f00"), "x").unwrap();
        fs::write(repository.join("blobs/deep/f01"), "x").unwrap();
        fs::write(repository.join("refs"), "x").unwrap();
        fs::write(outer.path().join("secret"), "x").unwrap();
        for (link, to) in [
            ("data/a.parquet", "../../../blobs/f00"),
            ("b.csv", "../../blobs/f00"),
            ("deep.csv", "../../blobs/deep/f01"),
            ("refs.csv", "../../refs"),
            ("secret.csv", "../../../../secret"),
            ("nowhere.csv", "../../blobs/f02"),
            ("folder.csv", "data"),
            ("inside.csv", "b.csv"),
        ] {
            symlink(to, snapshot.join(link)).unwrap();
        }
        let within = Within::new(&snapshot).unwrap();
        let Listing { files, left_out } = within.list().unwrap();
        assert_eq!(files, ["b.csv", "data/a.parquet", "inside.csv"]);
        let why: Vec<_> = left_out.iter().map(|one| (one.path.as_str(), one.why.split(':').next().unwrap())).collect();
        let out = "a link that leads out of the folder";
        assert_eq!(
            why,
            [
                ("deep.csv", out),
                ("folder.csv", "a link to what is no file"),
                ("nowhere.csv", "a link that leads nowhere"),
                ("refs.csv", out),
                ("secret.csv", out)
            ]
        );
        assert!(within.file("b.csv").is_ok() && within.file("secret.csv").unwrap_err().to_string().contains("leads out of"));
        // The same links in a folder that is no snapshot, and blobs that are a link themselves.
        let plain = repository.join("other/0a1b");
        fs::create_dir_all(&plain).unwrap();
        symlink("../../blobs/f00", plain.join("b.csv")).unwrap();
        assert_eq!(Within::new(&plain).unwrap().list().unwrap().left_out[0].why.split(':').next(), Some(out));
        fs::rename(repository.join("blobs"), outer.path().join("elsewhere")).unwrap();
        symlink(outer.path().join("elsewhere"), repository.join("blobs")).unwrap();
        assert!(Within::new(&snapshot).unwrap().file("b.csv").is_err());
    }
}
