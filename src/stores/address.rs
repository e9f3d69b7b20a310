//! Where a store is.

use std::fmt;
use std::path::PathBuf;

use crate::error::{Error, Result};

/// The address of a store, or of a place within one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreAddress {
    /// `s3://bucket/prefix`: Amazon S3 and what speaks its protocol.
    S3 {
        /// The bucket.
        bucket: String,
        /// What all keys begin with, without slashes around it; may be empty.
        prefix: String,
    },
    /// `gs://bucket/prefix`: Google Cloud Storage.
    Google {
        /// The bucket.
        bucket: String,
        /// What all keys begin with, without slashes around it; may be empty.
        prefix: String,
    },
    /// A folder, such as one that several machines mount.
    Folder(PathBuf),
}

impl StoreAddress {
    /// Whether a text is meant as the address of an object store, and not as a path.
    pub fn is_remote(text: &str) -> bool {
        text.contains("://")
    }

    /// Reads an address.
    ///
    /// # Errors
    /// When it is that of no store.
    pub fn parse(text: &str) -> Result<Self> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return match text.is_empty() {
                true => Err(Error::usage("the address of the store is empty")),
                false => Ok(Self::Folder(PathBuf::from(text))),
            };
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let wrong = |why: String| {
            Error::usage(format!("`{text}` is not the address of a store"))
                .because(why)
                .hint("write `s3://bucket/prefix`, `gs://bucket/prefix`, or a folder")
        };
        let of_a_bucket = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if bucket.is_empty() || !bucket.chars().all(of_a_bucket) {
            return Err(wrong(format!("`{bucket}` is not the name of a bucket")));
        }
        let prefix = prefix.trim_end_matches('/');
        if !prefix.is_empty()
            && let Some(part) = prefix.split('/').find(|part| !is_plain(part))
        {
            return Err(wrong(format!("`{part}` cannot be a part of a key")));
        }
        let (bucket, prefix) = (bucket.to_owned(), prefix.to_owned());
        match scheme {
            "s3" => Ok(Self::S3 { bucket, prefix }),
            "gs" => Ok(Self::Google { bucket, prefix }),
            other => Err(wrong(format!("`{other}://` is not known"))),
        }
    }

    /// A place within this one; `name` is made of parts that [`is_plain`] allows.
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        let joined = |prefix: &str| match prefix.is_empty() {
            true => name.to_owned(),
            false => format!("{prefix}/{name}"),
        };
        match self {
            Self::S3 { bucket, prefix } => {
                Self::S3 { bucket: bucket.clone(), prefix: joined(prefix) }
            }
            Self::Google { bucket, prefix } => {
                Self::Google { bucket: bucket.clone(), prefix: joined(prefix) }
            }
            Self::Folder(path) => Self::Folder(path.join(name)),
        }
    }
}

impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, bucket, prefix) = match self {
            Self::Folder(path) => return write!(f, "{}", path.display()),
            Self::S3 { bucket, prefix } => ("s3", bucket, prefix),
            Self::Google { bucket, prefix } => ("gs", bucket, prefix),
        };
        let slash = if prefix.is_empty() { "" } else { "/" };
        write!(f, "{scheme}://{bucket}{slash}{prefix}")
    }
}

/// Whether a part of a key means the same to every store and every file system, and leads nowhere
/// else.
pub(super) fn is_plain(part: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '=' | '+');
    !part.is_empty() && !part.starts_with('.') && part.len() <= 200 && part.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    #[test]
    fn an_address_is_that_of_a_bucket_or_a_folder() {
        let shown = |text: &str| StoreAddress::parse(text).unwrap().join("a").to_string();
        assert_eq!(shown("s3://bucket"), "s3://bucket/a");
        assert_eq!(shown("s3://bucket/"), "s3://bucket/a");
        assert_eq!(shown("gs://bucket/some/prefix/"), "gs://bucket/some/prefix/a");
        assert_eq!(shown("shared/folder"), "shared/folder/a");
    }

    #[test]
    fn what_would_lead_elsewhere_is_no_address() {
        let wrong = |text: &str| StoreAddress::parse(text).unwrap_err();
        says(
            wrong("s3://bucket/../other"),
            snapbox::str![[r#"
error[usage]: `s3://bucket/../other` is not the address of a store
  because `..` cannot be a part of a key

hint: write `s3://bucket/prefix`, `gs://bucket/prefix`, or a folder
"#]],
        );
        for text in ["", "s3://", "s3:///a", "ftp://a/b", "s3://a/b//c", "gs://a b/c", "s3://a/é"]
        {
            wrong(text);
        }
    }
}
