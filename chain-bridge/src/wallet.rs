//! Encrypted key files: Web3 secret storage, version 3 (scrypt, AES-128-CTR), readable by other wallets.
//!
//! A file is made whole or not at all, belongs to its owner alone (mode 0600), and never replaces another. scrypt runs with N = 2^13, r = 8:
//! 8 MB and some tens of milliseconds a guess. A file made elsewhere may ask for up to 512 MB, not more.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use alloy::signers::local::LocalSigner;
use rand08::{RngCore, rngs::OsRng};
use serde_json::Value;
use types::{id::Address, key::Account};

/// Largest key file read: they are about 500 bytes.
const FILE_MAX: u64 = 16 << 10;
/// Most memory that decryption may take, in bytes: 128 N r.
const SCRYPT_MEMORY_MAX: u64 = 512 << 20;
/// Most scrypt lanes.
const SCRYPT_LANES_MAX: u64 = 16;
/// Most PBKDF2 rounds.
const PBKDF2_ROUNDS_MAX: u64 = 10_000_000;

/// Why a key file could not be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    /// There is one.
    #[error("{path} exists already: it may hold the only copy of a key, so it is not replaced; choose another path")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file system.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Others may read it.
    #[error("{path} may be read by others (mode {mode:o}): run chmod 600 on it")]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Not a key file.
    #[error("{path} is no key file of Web3 secret storage version 3: {why}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The password.
    #[error("wrong password for {path}")]
    Password {
        /// The file.
        path: PathBuf,
    },
    /// No password.
    #[error("the password is empty: a key file protects by its password alone")]
    EmptyPassword,
}

/// Makes a new key and keeps it in `path`.
///
/// # Errors
/// [`WalletError`]; then there is no file that was not there before.
pub fn create(path: &Path, password: &str) -> Result<Account, WalletError> {
    let account = generate();
    keep(path, password, &account)?;
    Ok(account)
}

/// A new key.
pub fn generate() -> Account {
    let mut secret = zeroed();
    loop {
        OsRng.fill_bytes(&mut *secret);
        if let Some(account) = Account::from_bytes(&secret) {
            return account;
        }
    }
}

fn zeroed() -> Box<[u8; 32]> {
    Box::new([0; 32])
}

/// Keeps a key in a new file.
///
/// # Errors
/// [`WalletError`]; then there is no file that was not there before.
pub fn keep(path: &Path, password: &str, account: &Account) -> Result<(), WalletError> {
    if password.is_empty() {
        return Err(WalletError::EmptyPassword);
    }
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => WalletError::Exists { path: path.to_owned() },
        _ => WalletError::File { path: path.to_owned(), error },
    };
    if path.try_exists().map_err(failed)? {
        return Err(WalletError::Exists { path: path.to_owned() });
    }
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    // The library writes with the process's usual mode: inside a folder of ours nobody can look before it is tightened.
    fs::DirBuilder::new().mode(0o700).create(&beside).map_err(failed)?;
    let written = write_in(&beside, password, account).and_then(|file| fs::hard_link(file, path));
    let removed = fs::remove_dir_all(&beside);
    written.map_err(failed)?;
    removed.map_err(failed)
}

/// A link is made in one step and fails where a file stands, which a rename does not.
fn write_in(folder: &Path, password: &str, account: &Account) -> io::Result<PathBuf> {
    let secret = account.to_bytes();
    LocalSigner::encrypt_keystore(folder, &mut OsRng, secret.as_slice(), password, Some("key")).map_err(io::Error::other)?;
    let file = folder.join("key");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    fs::File::open(&file)?.sync_all()?;
    Ok(file)
}

/// Opens a key file.
///
/// # Errors
/// [`WalletError`].
pub fn load(path: &Path, password: &str) -> Result<Account, WalletError> {
    let failed = |error: io::Error| WalletError::File { path: path.to_owned(), error };
    let malformed = |why: String| WalletError::Malformed { path: path.to_owned(), why };
    let found = fs::metadata(path).map_err(failed)?;
    if found.permissions().mode() & 0o077 != 0 {
        return Err(WalletError::Open { path: path.to_owned(), mode: found.permissions().mode() & 0o777 });
    }
    if found.len() > FILE_MAX {
        return Err(malformed(format!("it has {} bytes, at most {FILE_MAX} are read", found.len())));
    }
    let text = fs::read(path).map_err(failed)?;
    let json: Value = serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
    check(&json).map_err(malformed)?;
    let signer = LocalSigner::decrypt_keystore(path, password).map_err(|error| {
        let why = error.to_string();
        if why.to_ascii_lowercase().contains("mac") { WalletError::Password { path: path.to_owned() } } else { malformed(why) }
    })?;
    Account::from_bytes(&signer.to_bytes().0).ok_or_else(|| malformed("it holds no valid key".into()))
}

/// Sizes that the library takes on trust: wrong ones would make it panic, or take all memory.
fn check(json: &Value) -> Result<(), String> {
    let crypto = json.get("crypto").ok_or("it has no \"crypto\"")?;
    let hex_len = |pointer: &str| crypto.pointer(pointer).and_then(Value::as_str).map(|text| text.strip_prefix("0x").unwrap_or(text).len());
    let expect = |pointer: &str, digits: usize| match hex_len(pointer) {
        Some(got) if got == digits => Ok(()),
        got => Err(format!("{pointer} must have {digits} hex digits, has {}", got.unwrap_or(0))),
    };
    expect("/ciphertext", 64)?;
    expect("/mac", 64)?;
    expect("/cipherparams/iv", 32)?;
    let number = |name: &str| crypto.pointer(&format!("/kdfparams/{name}")).and_then(Value::as_u64);
    let at_most = |name: &str, most: u64| match number(name) {
        Some(got) if (1..=most).contains(&got) => Ok(got),
        got => Err(format!("kdfparams {name} must be 1 to {most}, is {got:?}")),
    };
    if number("dklen") != Some(32) {
        return Err("kdfparams dklen must be 32".into());
    }
    match crypto.get("kdf").and_then(Value::as_str) {
        Some("scrypt") => {
            let (n, r) = (at_most("n", 1 << 22)?, at_most("r", 64)?);
            at_most("p", SCRYPT_LANES_MAX)?;
            if !n.is_power_of_two() || n < 2 || 128 * n * r > SCRYPT_MEMORY_MAX {
                return Err(format!(
                    "scrypt with n = {n}, r = {r} takes {} MB, at most {} are given",
                    (128 * n * r) >> 20,
                    SCRYPT_MEMORY_MAX >> 20
                ));
            }
            Ok(())
        }
        Some("pbkdf2") => at_most("c", PBKDF2_ROUNDS_MAX).map(|_| ()),
        other => Err(format!("kdf must be scrypt or pbkdf2, is {other:?}")),
    }
}

/// Address of a key file, by opening it.
///
/// # Errors
/// [`WalletError`].
pub fn address(path: &Path, password: &str) -> Result<Address, WalletError> {
    load(path, password).map(|account| account.address())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("account.json");
        (folder, path)
    }

    #[test]
    fn a_key_comes_back_with_its_password_alone() {
        let (folder, path) = place();
        let account = create(&path, "correct horse").unwrap();
        assert_eq!(load(&path, "correct horse").unwrap().address(), account.address());
        assert_eq!(load(&path, "battery staple").unwrap_err().to_string(), format!("wrong password for {}", path.display()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing may be left beside the file");
    }

    #[test]
    fn an_existing_file_is_never_replaced() {
        let (_folder, path) = place();
        fs::write(&path, "precious").unwrap();
        assert!(matches!(create(&path, "password"), Err(WalletError::Exists { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let (_folder, path) = place();
        create(&path, "password").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(load(&path, "password").unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn files_with_impossible_sizes_are_refused_without_a_panic() {
        let (_folder, path) = place();
        create(&path, "password").unwrap();
        let good: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for (pointer, value) in [
            ("/crypto/kdfparams/dklen", Value::from(8)),
            ("/crypto/kdfparams/n", Value::from(1_u64 << 40)),
            ("/crypto/kdfparams/n", Value::from(0)),
            ("/crypto/kdfparams/r", Value::from(1_000_000)),
            ("/crypto/kdfparams/p", Value::from(0)),
            ("/crypto/cipherparams/iv", Value::from("00")),
            ("/crypto/ciphertext", Value::from("")),
            ("/crypto/mac", Value::from("zz")),
            ("/crypto/kdf", Value::from("rot13")),
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(pointer).unwrap() = value;
            fs::write(&path, bad.to_string()).unwrap();
            assert!(matches!(load(&path, "password"), Err(WalletError::Malformed { .. })), "{pointer}");
        }
        fs::write(&path, "not json").unwrap();
        assert!(matches!(load(&path, "password"), Err(WalletError::Malformed { .. })));
    }

    #[test]
    fn an_empty_password_is_refused() {
        let (_folder, path) = place();
        assert!(matches!(create(&path, ""), Err(WalletError::EmptyPassword)));
    }
}
