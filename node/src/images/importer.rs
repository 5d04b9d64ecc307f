//! Runs `ctr` to list and import images, one archive at a time.
//!
//! It must not know when to import.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::record::{Record, Stamp};
use super::{ImageError, ImagesConfig, NAMESPACE, PAUSE_IMAGE, archive, pause};
use crate::network::truncate;

/// File name endings of archives that are imported.
const ENDINGS: [&str; 3] = [".tar", ".tar.gz", ".tgz"];
/// How much of `ctr`'s complaint is passed on, in bytes.
const MAX_REASON_BYTES: usize = 500;

/// What came of one archive.
#[derive(Debug)]
pub struct Imported {
    /// The archive.
    pub archive: PathBuf,
    /// The names of its images, or why it could not be imported.
    pub result: Result<Vec<String>, ImageError>,
}

pub(super) fn is_archive(name: &str) -> bool {
    !name.starts_with('.') && ENDINGS.iter().any(|ending| name.ends_with(ending))
}

pub(super) async fn import_pause(config: &ImagesConfig) -> Result<(), ImageError> {
    if present(config)
        .await?
        .iter()
        .any(|image| image == PAUSE_IMAGE)
    {
        return Ok(());
    }
    let arch = std::env::consts::ARCH;
    let program =
        pause::program_for(arch).ok_or_else(|| ImageError::Architecture(arch.to_owned()))?;
    let bytes =
        archive::pause_archive(PAUSE_IMAGE, &program).map_err(|error| ImageError::Import {
            what: PAUSE_IMAGE.to_owned(),
            reason: error.to_string(),
        })?;
    import(config, PAUSE_IMAGE, Path::new("-"), bytes).await?;
    Ok(())
}

pub(super) async fn import_all(config: &ImagesConfig) -> Result<Vec<Imported>, ImageError> {
    let dir = config.archives();
    std::fs::create_dir_all(&dir)
        .map_err(|source| ImageError::file("cannot create", &dir, source))?;
    let names = archive_names(&dir)?;
    let mut record = Record::load(&config.record());
    record.retain(&names);
    let present = present(config).await?;
    let mut imported = Vec::new();
    for name in names {
        let path = dir.join(&name);
        // An archive may vanish between listing and looking.
        let Ok(stamp) = Stamp::of(&path) else {
            continue;
        };
        if record.holds(&name, stamp, &present) {
            continue;
        }
        let result = import(config, &name, &path, Vec::new()).await;
        if let Ok(images) = &result {
            record.insert(&name, stamp, images.clone());
            record.save(&config.record())?;
        }
        imported.push(Imported {
            archive: path,
            result,
        });
    }
    Ok(imported)
}

fn archive_names(dir: &Path) -> Result<Vec<String>, ImageError> {
    let entries =
        std::fs::read_dir(dir).map_err(|source| ImageError::file("cannot read", dir, source))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| is_archive(name))
        .collect();
    names.sort();
    Ok(names)
}

/// The names of the images that containerd has.
async fn present(config: &ImagesConfig) -> Result<Vec<String>, ImageError> {
    let output = ctr(config, &["images", "list", "--quiet"], Vec::new()).await?;
    let output = succeeded("the list of images", output)?;
    Ok(output.lines().map(str::to_owned).collect())
}

async fn import(
    config: &ImagesConfig,
    what: &str,
    path: &Path,
    stdin: Vec<u8>,
) -> Result<Vec<String>, ImageError> {
    let path = path.to_string_lossy();
    let output = ctr(config, &["images", "import", &path], stdin).await?;
    Ok(imported_names(&succeeded(what, output)?))
}

async fn ctr(
    config: &ImagesConfig,
    arguments: &[&str],
    stdin: Vec<u8>,
) -> Result<Output, ImageError> {
    let program = crate::containerd::find_program("ctr").ok_or(ImageError::NotInstalled)?;
    let mut child = Command::new(&program)
        .arg("--address")
        .arg(&config.containerd)
        .args(["--namespace", NAMESPACE])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| ImageError::file("cannot run", &program, error))?;
    if let Some(mut input) = child.stdin.take() {
        // When ctr ends early, its own complaint says more than a broken pipe.
        let _ = input.write_all(&stdin).await;
    }
    child
        .wait_with_output()
        .await
        .map_err(|error| ImageError::file("cannot run", &program, error))
}

fn succeeded(what: &str, output: Output) -> Result<String, ImageError> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut reason = String::from_utf8_lossy(&output.stderr)
        .trim()
        .replace('\n', "; ");
    if reason.len() > MAX_REASON_BYTES {
        truncate(&mut reason, MAX_REASON_BYTES);
    }
    Err(ImageError::Import {
        what: what.to_owned(),
        reason,
    })
}

/// The image names in what `ctr images import` prints: `unpacking NAME (DIGEST)...done`, in containerd 2 `NAME saved`.
fn imported_names(output: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for line in output.lines() {
        let mut words = line.split_whitespace();
        let name = match (words.next(), words.next()) {
            (Some("unpacking"), Some(name)) | (Some(name), Some("saved")) => name.to_owned(),
            _ => continue,
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_from_both_generations_of_ctr() {
        let old = "unpacking docker.io/library/a:1 (sha256:0123)...done\nunpacking docker.io/library/a:2 (sha256:4)...done\n";
        assert_eq!(
            imported_names(old),
            ["docker.io/library/a:1", "docker.io/library/a:2"]
        );
        let new = "docker.io/library/a:1 saved\napplication/vnd.oci.image.manifest.v1+json sha256:01\nImporting\telapsed: 0.1 s\n";
        assert_eq!(imported_names(new), ["docker.io/library/a:1"]);
    }

    #[test]
    fn only_archives_are_taken() {
        let taken = |name| is_archive(name);
        assert!(taken("a.tar") && taken("a.tar.gz") && taken("a.tgz"));
        assert!(!taken(".a.tar") && !taken("a.tar.part") && !taken("README"));
    }
}
