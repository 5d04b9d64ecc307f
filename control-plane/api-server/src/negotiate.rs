//! What form of answer a client accepts: JSON or YAML; the object itself, a Table, or metadata alone.
//!
//! Protobuf is understood in bodies; in what a client accepts it is passed over, so that one that lists JSON behind it
//! gets JSON.

use api_machinery::Status;
use http::HeaderMap;
use http::header::ACCEPT;

/// How the answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Format {
    #[default]
    Json,
    Yaml,
}

/// What is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Shape {
    #[default]
    Object,
    /// `meta.k8s.io` Table of this version.
    Table(&'static str),
    /// `meta.k8s.io` PartialObjectMetadata (or its list) of this version.
    Metadata(&'static str),
    /// Aggregated discovery of this version.
    Discovery(&'static str),
}

/// One form of answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Accepted {
    pub format: Format,
    pub shape: Shape,
}

/// What can be given for resources.
const FORMATS: [&str; 2] = ["application/json", "application/yaml"];
/// What is understood in bodies.
const BODY_FORMATS: [&str; 3] = [
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
];

impl Accepted {
    /// The first form of the `Accept` header, by quality, that can be given; JSON where there is no header.
    ///
    /// # Errors
    /// 406 where none can.
    pub fn of(headers: &HeaderMap) -> Result<Self, Status> {
        let Some(accept) = headers.get(ACCEPT).and_then(|v| v.to_str().ok()) else {
            return Ok(Self::default());
        };
        if accept == "application/json" || accept.trim().is_empty() {
            return Ok(Self::default());
        }
        let mut clauses: Vec<(f32, &str)> =
            accept.split(',').map(|c| (quality(c), c.trim())).collect();
        clauses.sort_by(|a, b| b.0.total_cmp(&a.0));
        clauses
            .into_iter()
            .find_map(|(_, clause)| Self::parse(clause))
            .ok_or_else(|| Status::not_acceptable(&FORMATS))
    }

    fn parse(clause: &str) -> Option<Self> {
        let mut parts = clause.split(';').map(str::trim);
        let format = match parts.next()? {
            "application/json" | "*/*" | "application/*" => Format::Json,
            "application/yaml" | "text/yaml" => Format::Yaml,
            _ => return None,
        };
        let (mut form, mut group, mut version) = ("", "", "");
        for (key, value) in parts.filter_map(|p| p.split_once('=')) {
            match key {
                "as" => form = value,
                "g" => group = value,
                "v" => version = value,
                _ => {}
            }
        }
        let version = match version {
            "v1" => "v1",
            "v1beta1" => "v1beta1",
            "v2" => "v2",
            "v2beta1" => "v2beta1",
            _ => "",
        };
        let shape = match (form, group, version) {
            ("", ..) => Shape::Object,
            ("Table", "meta.k8s.io", "v1" | "v1beta1") => Shape::Table(version),
            (
                "PartialObjectMetadata" | "PartialObjectMetadataList",
                "meta.k8s.io",
                "v1" | "v1beta1",
            ) => Shape::Metadata(version),
            ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2" | "v2beta1") => {
                Shape::Discovery(version)
            }
            _ => return None,
        };
        Some(Self { format, shape })
    }

    pub fn is_plain(self) -> bool {
        self == Self::default()
    }
}

fn quality(clause: &str) -> f32 {
    let q = clause
        .split(';')
        .filter_map(|p| p.trim().strip_prefix("q="))
        .next();
    q.and_then(|q| q.parse().ok()).unwrap_or(1.0)
}

/// How a request's body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFormat {
    Json,
    Yaml,
    Protobuf,
}

/// The format of a body that holds an object.
///
/// # Errors
/// 415 for CBOR and what nobody knows.
pub(crate) fn body_format(content_type: &str) -> Result<BodyFormat, Status> {
    match media_type(content_type) {
        "" | "application/json" | "*/*" => Ok(BodyFormat::Json),
        "application/yaml" | "text/yaml" => Ok(BodyFormat::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(BodyFormat::Protobuf),
        _ => Err(Status::unsupported_media_type(&BODY_FORMATS)),
    }
}

/// A media type without its parameters.
pub(crate) fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: &str, expect: Result<(Format, Shape), u16>) {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().expect("header"));
        let got = Accepted::of(&headers)
            .map(|a| (a.format, a.shape))
            .map_err(|s| s.code);
        assert_eq!(got, expect, "{accept}");
    }

    #[test]
    fn the_first_possible_form_wins() {
        check("application/json", Ok((Format::Json, Shape::Object)));
        check(
            "application/vnd.kubernetes.protobuf, application/json",
            Ok((Format::Json, Shape::Object)),
        );
        check("application/vnd.kubernetes.protobuf", Err(406));
        check("application/yaml", Ok((Format::Yaml, Shape::Object)));
        check(
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
            Ok((Format::Json, Shape::Table("v1"))),
        );
        check(
            "application/json;as=Nothing;v=v1;g=x, */*;q=0.5",
            Ok((Format::Json, Shape::Object)),
        );
        check("text/html", Err(406));
    }
}
