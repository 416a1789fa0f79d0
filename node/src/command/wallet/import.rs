//! A settlement key from a file made elsewhere.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::Path,
};

use anyhow::{Context as _, bail, ensure};
use types::key::Account;
use zeroize::Zeroizing;

use crate::data::read_bounded;

/// Largest file read: key files have about 500 bytes.
const FILE_MAX: u64 = 16 << 10;

/// The key of a file: Web3 secret storage opened with `password`, or 64 hex digits with or without `0x`.
pub(super) fn read(path: &Path, password: &str) -> anyhow::Result<Account> {
    let found = fs::metadata(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    // A pipe is what a shell hands over for another command's output.
    ensure!(found.is_file() || found.file_type().is_fifo(), "{} is no file: name one that holds a key", path.display());
    let mode = found.permissions().mode() & 0o777;
    ensure!(mode & 0o077 == 0, "{} may be read by others (mode {mode:o}): run chmod 600 on it", path.display());
    let bytes = Zeroizing::new(read_bounded(path, FILE_MAX).with_context(|| format!("{}: cannot be read", path.display()))?);
    if bytes.trim_ascii_start().first() == Some(&b'{') {
        return Ok(chain_bridge::wallet::load(path, password)?);
    }
    let digits = bytes.trim_ascii();
    let digits = digits.strip_prefix(b"0x").unwrap_or(digits);
    let mut secret = Zeroizing::new([0; 32]);
    if hex::decode_to_slice(digits, &mut *secret).is_err() {
        // What it holds may be a secret all the same: not shown.
        bail!("{}: must be a key file of Web3 secret storage or hold 64 hex digits", path.display());
    }
    Account::from_bytes(&secret)
        .with_context(|| format!("{}: the key is zero or beyond the curve's order: use another one", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(bytes: &[u8], mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn hex_with_and_without_prefix_and_key_files_give_the_same_account() {
        let account = Account::from_bytes(&[7; 32]).unwrap();
        for text in ["07".repeat(32), format!("0x{}\n", "07".repeat(32))] {
            let (_folder, path) = written(text.as_bytes(), 0o600);
            assert_eq!(read(&path, "").unwrap().address(), account.address());
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        chain_bridge::wallet::keep(&path, "correct horse", &account).unwrap();
        assert_eq!(read(&path, "correct horse").unwrap().address(), account.address());
        assert!(read(&path, "battery staple").unwrap_err().to_string().contains("wrong password"));
    }

    #[test]
    fn a_file_that_others_may_read_or_that_holds_no_key_is_refused_without_showing_it() {
        let (_folder, path) = written("07".repeat(32).as_bytes(), 0o640);
        assert!(read(&path, "").unwrap_err().to_string().contains("chmod 600"));
        for bytes in [&b"0707"[..], b"", &[b'z'; 64], &[b'0'; 64], b"{\"crypto\":", &[0xff; 64], &[b'7'; 17 << 10]] {
            let (_folder, path) = written(bytes, 0o600);
            let error = format!("{:#}", read(&path, "password").unwrap_err());
            assert!(!error.contains("0707") && !error.contains("7777"), "{error}");
        }
        assert!(read(Path::new("/nonexistent/key"), "").is_err());
        // Nobody is told to change the mode of what is no file.
        for no_file in ["/dev/zero", "/tmp"] {
            assert!(read(Path::new(no_file), "").unwrap_err().to_string().contains("is no file"));
        }
    }
}
