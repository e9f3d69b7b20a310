//! S3 and Google Cloud Storage, by the crate `object_store`.
//!
//! Who asks is said by the variables that the tools of these clouds read as well: keys, the token
//! of a web identity, those of containers and machines; `AWS_ENDPOINT_URL` names MinIO and others.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use object_store::aws::AmazonS3Builder;
use object_store::client::CryptoProvider;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path as Key;
use object_store::{
    BackoffConfig, Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    PutPayload, RetryConfig,
};
use tokio::runtime::{Builder, Runtime};

use super::address::StoreAddress;
use super::connector::UreqConnector;
use super::crypto::RingProvider;
use super::objects::{ObjectInfo, Objects};
use super::traffic::{Traffic, TrafficCount};
use crate::error::{Context, Error, Result, in_a_line};

/// Bytes of a part of a file: S3 wants at least 5 MiB of each but the last.
const PART_BYTES: u64 = 16 << 20;
/// S3 takes at most ten thousand parts.
const PARTS_MAX: u64 = 9_000;
/// Pages of a list, of a thousand objects each.
const PAGES_MAX: usize = 10_000;

/// A bucket.
#[derive(Debug)]
pub(super) struct Cloud {
    /// For people.
    name: String,
    runtime: Runtime,
    store: Arc<dyn ObjectStore>,
    lists: Lists,
    traffic: Arc<Traffic>,
}

/// The same store, as far as it lists.
struct Lists(Arc<dyn PaginatedListStore>);

impl std::fmt::Debug for Lists {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lists")
    }
}

impl Cloud {
    pub fn open(address: &StoreAddress) -> Result<Self> {
        let traffic = Arc::new(Traffic::default());
        let connector = UreqConnector(Arc::clone(&traffic));
        let crypto: Arc<dyn CryptoProvider> = Arc::new(RingProvider);
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(200),
                max_backoff: Duration::from_secs(10),
                base: 2.0,
            },
            max_retries: 6,
            retry_timeout: Duration::from_secs(120),
        };
        let refused = |error: StoreError| {
            Error::store(format!("cannot open the store {address}")).because(plain(&error)).hint(
                "credentials are taken from the environment, as the tools of the cloud take them",
            )
        };
        let runtime = Builder::new_current_thread().enable_time().build();
        let runtime = runtime.context("cannot start the runtime of the store")?;
        // The builders have the same methods, and no trait in common.
        macro_rules! built {
            ($builder:ident, $bucket:expr) => {{
                let store = $builder::from_env()
                    .with_bucket_name($bucket)
                    .with_retry(retry)
                    .with_crypto_provider(crypto)
                    .with_http_connector(connector)
                    .build();
                let store = Arc::new(store.map_err(refused)?);
                (Arc::clone(&store) as Arc<dyn ObjectStore>, store as Arc<dyn PaginatedListStore>)
            }};
        }
        let ((store, lists), bucket) = match address {
            StoreAddress::S3 { bucket, .. } => {
                (built!(AmazonS3Builder, bucket), format!("s3://{bucket}"))
            }
            StoreAddress::Google { bucket, .. } => {
                (built!(GoogleCloudStorageBuilder, bucket), format!("gs://{bucket}"))
            }
            StoreAddress::Folder(path) => {
                return Err(Error::internal("a folder is not a bucket").at(path));
            }
        };
        Ok(Self { name: bucket, runtime, store, lists: Lists(lists), traffic })
    }

    fn failed(&self, what: &str, key: &str, error: &StoreError) -> Error {
        let text = format!("cannot {what} `{}/{key}`", self.name);
        let why = plain(error);
        match error {
            StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
                Error::store(text).because(why).hint(
                    "credentials are taken from the environment, as the tools of the cloud take \
                     them",
                )
            }
            StoreError::Generic { .. } => Error::network(text).because(why),
            _ => Error::store(text).because(why),
        }
    }

    fn key(&self, key: &str) -> Result<Key> {
        let parsed = Key::parse(key);
        parsed.map_err(|error| Error::store(format!("`{key}` is not a key")).because(error))
    }
}

/// The innermost reason, in one line: what it is wrapped in repeats it.
fn plain(error: &StoreError) -> String {
    let mut error: &dyn std::error::Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    in_a_line(&error.to_string())
}

impl Objects for Cloud {
    fn put(&self, key: &str, bytes: Vec<u8>) -> Result<()> {
        let place = self.key(key)?;
        let put = self.runtime.block_on(self.store.put(&place, PutPayload::from(bytes)));
        put.map(drop).map_err(|error| self.failed("write", key, &error))
    }

    fn put_new(&self, key: &str, bytes: Vec<u8>) -> Result<bool> {
        let place = self.key(key)?;
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let payload = PutPayload::from(bytes);
        let put = self.store.put_opts(&place, payload.clone(), options);
        match self.runtime.block_on(put) {
            Ok(_) => Ok(true),
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => Ok(false),
            // `AWS_CONDITIONAL_PUT=disabled`, for stores that refuse such writes: it is looked
            // first, and of two that look at the same moment both write.
            Err(StoreError::NotImplemented { .. } | StoreError::NotSupported { .. }) => {
                match self.runtime.block_on(self.store.head(&place)) {
                    Ok(_) => Ok(false),
                    Err(StoreError::NotFound { .. }) => {
                        let put = self.runtime.block_on(self.store.put(&place, payload));
                        put.map(|_| true).map_err(|error| self.failed("write", key, &error))
                    }
                    Err(error) => Err(self.failed("look for", key, &error)),
                }
            }
            Err(error) => Err(self.failed("write", key, &error)),
        }
    }

    fn put_file(&self, key: &str, path: &Path, size: u64) -> Result<()> {
        let place = self.key(key)?;
        let mut file = File::open(path).context_at("cannot read the file", path)?;
        let part_bytes = PART_BYTES.max(size.div_ceil(PARTS_MAX));
        let mut part = |length: u64| -> Result<PutPayload> {
            let mut bytes = Vec::new();
            let read = (&mut file).take(length).read_to_end(&mut bytes);
            read.context_at("cannot read the file", path)?;
            match bytes.len() as u64 == length {
                true => Ok(PutPayload::from(bytes)),
                false => Err(Error::changed("the file became shorter while it was read").at(path)),
            }
        };
        if size <= part_bytes {
            let put = self.store.put(&place, part(size)?);
            let put = self.runtime.block_on(put);
            return put.map(drop).map_err(|error| self.failed("write", key, &error));
        }
        let failed = |error: StoreError| self.failed("write", key, &error);
        let upload = self.runtime.block_on(self.store.put_multipart(&place));
        let mut upload = upload.map_err(failed)?;
        let mut send = || -> Result<()> {
            let mut left = size;
            while left > 0 {
                let length = left.min(part_bytes);
                let sent = upload.put_part(part(length)?);
                self.runtime.block_on(sent).map_err(failed)?;
                left -= length;
            }
            self.runtime.block_on(upload.complete()).map(drop).map_err(failed)
        };
        let sent = send();
        if sent.is_err() {
            // What stays of it is paid for, and seen by nobody.
            let _ = self.runtime.block_on(upload.abort());
        }
        sent
    }

    fn get(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let place = self.key(key)?;
        let failed = |error: StoreError| self.failed("read", key, &error);
        let found = match self.runtime.block_on(self.store.get(&place)) {
            Ok(found) => found,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if found.meta.size > limit {
            let what = format!("`{}/{key}` has more than {limit} bytes", self.name);
            return Err(Error::store(what));
        }
        Ok(Some(self.runtime.block_on(found.bytes()).map_err(failed)?.to_vec()))
    }

    fn read(&self, key: &str, size: u64, sink: &mut dyn Write) -> Result<()> {
        let place = self.key(key)?;
        let mut at = 0;
        while at < size {
            let end = size.min(at + PART_BYTES);
            let part = self.runtime.block_on(self.store.get_range(&place, at..end));
            let part = part.map_err(|error| match error {
                StoreError::NotFound { .. } => {
                    Error::store(format!("the store does not have `{}/{key}`", self.name))
                }
                error => self.failed("read", key, &error),
            })?;
            if part.len() as u64 != end - at {
                let what = format!("`{}/{key}` has another size", self.name);
                return Err(Error::store(what));
            }
            sink.write_all(&part).context("cannot write what the store gives")?;
            at = end;
        }
        Ok(())
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        let (mut found, mut page_token) = (Vec::new(), None);
        for _ in 0..PAGES_MAX {
            let options = PaginatedListOptions { page_token, ..PaginatedListOptions::default() };
            let page = self.lists.0.list_paginated(Some(prefix), options);
            let page = self.runtime.block_on(page);
            let page = page.map_err(|error| self.failed("list", prefix, &error))?;
            found.extend(page.result.objects.into_iter().map(|object| {
                let seconds = u64::try_from(object.last_modified.timestamp()).unwrap_or(0);
                ObjectInfo {
                    key: object.location.to_string(),
                    bytes: object.size,
                    modified: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
                }
            }));
            page_token = page.page_token;
            if page_token.is_none() {
                return Ok(found);
            }
        }
        Err(Error::store(format!("`{}/{prefix}` has too many objects to be listed", self.name)))
    }

    fn delete(&self, key: &str) -> Result<()> {
        let place = self.key(key)?;
        match self.runtime.block_on(self.store.delete(&place)) {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("remove", key, &error)),
        }
    }

    fn traffic(&self) -> TrafficCount {
        self.traffic.count()
    }
}
