//! Google Cloud Storage with the settings that Google's own tools read.

use std::sync::Arc;

use object_store::StaticCredentialProvider;
use object_store::gcp::{GcpCredential, GoogleCloudStorage, GoogleCloudStorageBuilder, GoogleConfigKey};

use super::aws::invalid;
use super::connector::{StoreConnector, refuse_metadata, retries};
use super::failure::Direction;
use super::url::ObjectUrl;
use crate::error::Result;

/// The bucket of `url`.
pub(super) fn bucket(name: &str, url: &ObjectUrl, _: Direction) -> Result<GoogleCloudStorage> {
    let mut builder = GoogleCloudStorageBuilder::from_env();
    if let Some(host) = std::env::var("STORAGE_EMULATOR_HOST").ok().filter(|host| !host.is_empty()) {
        let base = if host.contains("://") { host } else { format!("http://{host}") };
        // An emulator wants no credentials, and must not get real ones.
        let nothing = Arc::new(StaticCredentialProvider::new(GcpCredential { bearer: "emulator".to_owned() }));
        builder = builder.with_base_url(base.trim_end_matches('/')).with_credentials(nothing);
    }
    refuse_metadata(builder.get_config_value(&GoogleConfigKey::BaseUrl), url.shown())?;
    builder
        .with_bucket_name(name)
        .with_http_connector(StoreConnector)
        .with_retry(retries())
        .build()
        .map_err(|error| invalid(&error, url))
}
