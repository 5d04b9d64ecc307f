//! Generates the Rust code of the `.proto` files; needs `protoc` (Debian: protobuf-compiler).

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = "proto/etcd";
    println!("cargo::rerun-if-changed={folder}");
    tonic_prost_build::configure()
        .bytes(".")
        .compile_protos(&[format!("{folder}/rpc.proto")], &[folder.to_owned()])?;
    Ok(())
}
