//! Azure Blob Storage with the settings that Azure's own tools read.

use object_store::azure::{AzureConfigKey, MicrosoftAzure, MicrosoftAzureBuilder};

use super::aws::invalid;
use super::connector::{StoreConnector, refuse_metadata, retries};
use super::failure::{Direction, usage};
use super::url::ObjectUrl;
use crate::error::Result;

/// The account of Microsoft's emulator on this machine. It is public: Microsoft prints it in its manual.
const EMULATOR: [(&str, &str); 3] = [
    ("AccountName", "devstoreaccount1"),
    ("AccountKey", "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="),
    ("BlobEndpoint", "http://127.0.0.1:10000/devstoreaccount1"),
];

/// The container of `url`.
pub(super) fn container(name: &str, url: &ObjectUrl, _: Direction) -> Result<MicrosoftAzure> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut builder = MicrosoftAzureBuilder::from_env();
    if let Some(account) = variable("AZURE_STORAGE_ACCOUNT") {
        builder = builder.with_account(account);
    }
    if let Some(key) = variable("AZURE_STORAGE_KEY") {
        builder = builder.with_access_key(key);
    }
    if let Some(text) = variable("AZURE_STORAGE_CONNECTION_STRING") {
        builder = connected(builder, &text).ok_or_else(|| {
            usage(
                "AZURE_STORAGE_CONNECTION_STRING: the text is not a connection string",
                "copy it again: AccountName=…;AccountKey=…;EndpointSuffix=…",
            )
        })?;
    }
    refuse_metadata(builder.get_config_value(&AzureConfigKey::Endpoint), url.shown())?;
    builder
        .with_container_name(name)
        .with_http_connector(StoreConnector)
        .with_retry(retries())
        .build()
        .map_err(|error| invalid(&error, url))
}

/// Takes the settings of a connection string.
fn connected(mut builder: MicrosoftAzureBuilder, text: &str) -> Option<MicrosoftAzureBuilder> {
    let parts: Vec<(&str, &str)> =
        text.split(';').filter(|part| !part.is_empty()).map(|part| part.split_once('=')).collect::<Option<_>>()?;
    let own = |name: &str| parts.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value);
    let emulated = own("UseDevelopmentStorage").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let part = |name: &str| {
        let usual = EMULATOR.iter().find(|(key, _)| emulated && *key == name).map(|(_, value)| *value);
        own(name).or(usual)
    };
    let account = part("AccountName");
    if let Some(account) = account {
        builder = builder.with_account(account);
    }
    if let Some(key) = part("AccountKey") {
        builder = builder.with_access_key(key);
    }
    if let Some(sas) = part("SharedAccessSignature") {
        builder = builder.with_config(AzureConfigKey::SasKey, sas);
    }
    let suffix = part("EndpointSuffix").filter(|suffix| *suffix != "core.windows.net").zip(account);
    let endpoint = part("BlobEndpoint").map(str::to_owned);
    if let Some(endpoint) =
        endpoint.or_else(|| suffix.map(|(suffix, account)| format!("https://{account}.blob.{suffix}")))
    {
        builder = builder.with_endpoint(endpoint);
    }
    Some(builder)
}
