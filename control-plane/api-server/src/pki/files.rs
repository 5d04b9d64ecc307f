//! Reading and writing of PEM files: whole or not at all, keys for their owner only.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rcgen::KeyPair;

use super::PkiError;

pub(crate) const PRIVATE: u32 = 0o600;
pub(crate) const PUBLIC: u32 = 0o644;

fn error<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> PkiError + 'a {
    move |source| PkiError::File {
        action,
        path: path.to_owned(),
        source,
    }
}

pub(crate) fn create_dir(path: &Path) -> Result<(), PkiError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(error("create", path))
}

pub(crate) fn read(path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(error("read", path))
}

pub(crate) fn read_if_there(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(error("read", path)(source)),
    }
}

/// Writes a new file beside `path` and renames it, so that a crash leaves the old or the new one.
pub(crate) fn write(path: &Path, data: &[u8], mode: u32) -> Result<(), PkiError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = Path::new(&temporary);
    // A file left over from a crash may have another mode.
    let _ = fs::remove_file(temporary);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(temporary)
        .map_err(error("create", temporary))?;
    file.write_all(data)
        .and_then(|()| file.sync_all())
        .map_err(error("write", temporary))?;
    fs::rename(temporary, path).map_err(error("replace", path))
}

/// Removes the certificates in `dir` that are not of a CA.
pub(crate) fn remove_leaves(dir: &Path) -> Result<(), PkiError> {
    for entry in fs::read_dir(dir).map_err(error("read", dir))? {
        let path = entry.map_err(error("read", dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_ca = name.starts_with("ca") || name.contains("-ca");
        if name.ends_with(".crt") && !is_ca {
            fs::remove_file(&path).map_err(error("remove", &path))?;
        }
    }
    Ok(())
}

/// The key pair `NAME.key`; made, with `NAME.pub` beside it, if there is none.
pub(crate) fn key_or_create(dir: &Path, name: &str) -> Result<(), PkiError> {
    let path = dir.join(format!("{name}.key"));
    if read_if_there(&path)?.is_some() {
        return Ok(());
    }
    let key = KeyPair::generate().map_err(|source| PkiError::Issue {
        name: name.into(),
        source,
    })?;
    write(
        &dir.join(format!("{name}.pub")),
        key.public_key_pem().as_bytes(),
        PUBLIC,
    )?;
    write(&path, key.serialize_pem().as_bytes(), PRIVATE)
}
