//! A docker archive with one image of one file, built in memory.
//!
//! It must not know what the file is.

use serde_json::json;
use sha2::{Digest, Sha256};

use super::pause::Program;

/// The archive of the pause image under a name. The same program gives the same bytes on every machine.
pub(super) fn pause_archive(name: &str, program: &Program) -> std::io::Result<Vec<u8>> {
    let layer = tar_of(&[("pause", 0o755, &program.elf())])?;
    let config = json!({
        "architecture": program.architecture,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": { "Entrypoint": ["/pause"], "User": "65535:65535" },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", sha256(&layer))] },
        "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "xebec" }],
    });
    let config = serde_json::to_vec(&config)?;
    let config_name = format!("{}.json", sha256(&config));
    let manifest = json!([{ "Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"] }]);
    tar_of(&[
        (&config_name, 0o644, &config),
        ("layer.tar", 0o644, &layer),
        ("manifest.json", 0o644, &serde_json::to_vec(&manifest)?),
    ])
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn tar_of(files: &[(&str, u32, &[u8])]) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, mode, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(*mode);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, *content)?;
    }
    tar.into_inner()
}

#[cfg(test)]
mod tests {
    use super::super::pause::program_for;
    use super::*;

    #[test]
    fn archive_holds_config_layer_and_manifest() {
        let program = program_for("aarch64").expect("known processor");
        let bytes = pause_archive("localhost/xebec/pause:1", &program).expect("in memory");
        let mut names = Vec::new();
        let mut archive = tar::Archive::new(bytes.as_slice());
        for entry in archive.entries().expect("tar") {
            names.push(
                entry
                    .expect("entry")
                    .path()
                    .expect("path")
                    .to_string_lossy()
                    .into_owned(),
            );
        }
        assert_eq!(names.len(), 3);
        assert_eq!(names[1..], ["layer.tar", "manifest.json"]);
        assert_eq!(
            bytes,
            pause_archive("localhost/xebec/pause:1", &program).expect("in memory"),
            "reproducible"
        );
    }
}
