//! What a lineage refers to by its digest: a resource descriptor of in-toto
//! (`ResourceDescriptor`, in-toto attestation framework 1.0).

use serde_json::{Value, json};

use crate::files::Digest;

/// A file or text of this name, with what is said of it.
pub fn dependency(name: &str, sha256: &Digest, annotations: Value) -> Value {
    json!({"name": name, "digest": {"sha256": sha256}, "annotations": annotations})
}
