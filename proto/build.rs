//! Generates the Rust code of the `.proto` files and their JSON form; needs `protoc` (Debian: protobuf-compiler).

use std::path::PathBuf;

const FOLDER: &str = "proto/etcd";
const FILES: &[&str] = &["rpc", "v3lock", "v3election", "health"];
/// Packages with a proto3 JSON form, for the gateway.
const JSON: &[&str] = &[
    ".authpb",
    ".mvccpb",
    ".etcdserverpb",
    ".v3lockpb",
    ".v3electionpb",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed={FOLDER}");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let descriptors = out.join("descriptors.bin");
    let files: Vec<String> = FILES
        .iter()
        .map(|file| format!("{FOLDER}/{file}.proto"))
        .collect();
    tonic_prost_build::configure()
        .bytes(".")
        .file_descriptor_set_path(&descriptors)
        .compile_protos(&files, &[FOLDER.to_owned()])?;
    pbjson_build::Builder::new()
        .register_descriptors(&std::fs::read(descriptors)?)?
        .preserve_proto_field_names()
        .ignore_unknown_fields()
        .build(JSON)?;
    Ok(())
}
