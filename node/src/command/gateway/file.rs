//! The file of the gateway's keys: digests and limits, nothing a thief could ask with.

use anyhow::Context as _;

use crate::{
    api::keys::Keys,
    data::{DataDir, read_bounded, write_atomic},
};

/// Largest file: 1,024 keys of 300 bytes.
const FILE_MAX: u64 = 1 << 20;

/// The keys; none where there is no file.
pub(super) fn read(data: &DataDir) -> anyhow::Result<Keys> {
    let path = data.gateway_keys();
    if !data.has(&path)? {
        return Ok(Keys::default());
    }
    let bytes = read_bounded(&path, FILE_MAX).with_context(|| format!("{}: cannot be read", path.display()))?;
    let keys: Keys = serde_json::from_slice(&bytes).with_context(|| format!("{}: damaged list of keys", path.display()))?;
    keys.check().with_context(|| path.display().to_string())?;
    Ok(keys)
}

/// Writes them; on disk when this returns.
pub(super) fn write(data: &DataDir, keys: &Keys) -> anyhow::Result<()> {
    data.create()?;
    let path = data.gateway_keys();
    write_atomic(&path, &serde_json::to_vec_pretty(keys)?, 0o600).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::api::{keys::Secret, limits::Limits};

    #[test]
    fn keys_come_back_from_their_file_which_is_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::new(folder.path().join("data"));
        assert_eq!(read(&data).unwrap(), Keys::default());
        let mut keys = Keys::default();
        keys.add("laptop", &Secret::new(&[1; 32]), true, Limits::default()).unwrap();
        write(&data, &keys).unwrap();
        assert_eq!(read(&data).unwrap(), keys);
        assert_eq!(std::fs::metadata(data.gateway_keys()).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(data.gateway_keys(), b"{\"keys\":[{\"name\":\"a b\"}]}").unwrap();
        assert!(read(&data).unwrap_err().to_string().contains("damaged list of keys"));
    }
}
