//! A CA and certificates by it, as files, for stores that want TLS.

use std::path::{Path, PathBuf};

use anyhow::Result;

/// Names of certificates, and what each is good for.
const SUBJECTS: [(&str, &[&str]); 3] = [
    ("server", &["localhost", "127.0.0.1", "127.0.0.2"]),
    ("peer", &["localhost", "127.0.0.1"]),
    ("client", &["client.example"]),
];

/// `ca.crt`, and of each subject a `.crt` and a `.key`.
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Makes them anew in this folder.
    pub fn write(folder: &Path) -> Result<Self> {
        let write = |name: &str, text: String| std::fs::write(folder.join(name), text);
        let key = rcgen::KeyPair::generate()?;
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        write("ca.crt", params.self_signed(&key)?.pem())?;
        let issuer = rcgen::Issuer::new(params, key);
        for (name, names) in SUBJECTS {
            let key = rcgen::KeyPair::generate()?;
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let params = rcgen::CertificateParams::new(names)?;
            let certificate = params.signed_by(&key, &issuer)?;
            write(&format!("{name}.crt"), certificate.pem())?;
            write(&format!("{name}.key"), key.serialize_pem())?;
        }
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// One of the files.
    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// etcdctl's flag for one who trusts the CA.
    pub fn trust(&self) -> String {
        format!("--cacert={}", self.path("ca.crt"))
    }

    /// etcdctl's flags for one who has a certificate as well.
    pub fn own(&self) -> String {
        let (cert, key) = (self.path("client.crt"), self.path("client.key"));
        format!("{} --cert={cert} --key={key}", self.trust())
    }
}
