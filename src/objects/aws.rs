//! S3 with the settings that AWS's own tools read: variables of the environment, then the files of the profile.

use std::collections::HashMap;
use std::path::PathBuf;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};

use super::connector::{StoreConnector, refuse_metadata, retries};
use super::failure::{Direction, FailureKind, ObjectFailure, usage};
use super::url::ObjectUrl;
use crate::error::Result;

/// The settings of one profile.
type Profile = HashMap<String, String>;

/// The bucket of `url`.
pub(super) fn bucket(name: &str, url: &ObjectUrl, direction: Direction) -> Result<AmazonS3> {
    let mut builder = AmazonS3Builder::from_env();
    let set = |name: &str| std::env::var(name).is_ok_and(|value| !value.is_empty());
    let profile = profile()?;
    let fill = |builder: AmazonS3Builder, key: AmazonS3ConfigKey, name: &str| match profile.get(name) {
        Some(value) if builder.get_config_value(&key).is_none() => builder.with_config(key, value),
        _ => builder,
    };
    if !set("AWS_ACCESS_KEY_ID") && !set("AWS_WEB_IDENTITY_TOKEN_FILE") {
        builder = fill(builder, AmazonS3ConfigKey::AccessKeyId, "aws_access_key_id");
        builder = fill(builder, AmazonS3ConfigKey::SecretAccessKey, "aws_secret_access_key");
        builder = fill(builder, AmazonS3ConfigKey::Token, "aws_session_token");
    }
    builder = fill(builder, AmazonS3ConfigKey::Region, "region");
    builder = fill(builder, AmazonS3ConfigKey::Endpoint, "endpoint_url");
    let keys = builder.get_config_value(&AmazonS3ConfigKey::AccessKeyId).is_some();
    for key in [AmazonS3ConfigKey::Endpoint, AmazonS3ConfigKey::S3Endpoint] {
        refuse_metadata(builder.get_config_value(&key), url.shown())?;
    }
    let elsewhere = [
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_SKIP_SIGNATURE",
    ];
    if !keys && !elsewhere.into_iter().any(set) {
        if let Some(other) = ["sso_session", "sso_start_url", "credential_process", "role_arn"]
            .into_iter()
            .find(|name| profile.contains_key(*name))
        {
            let text = format!("{}: llbatch does not read `{other}` of an AWS profile", url.shown());
            return Err(usage(&text, "eval \"$(aws configure export-credentials --format env)\" gives it the keys"));
        }
        if std::env::var("AWS_EC2_METADATA_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true")) {
            return Err(ObjectFailure::new(FailureKind::NoCredentials, "").error(url, direction));
        }
    }
    builder
        .with_bucket_name(name)
        .with_http_connector(StoreConnector)
        .with_retry(retries())
        // Not all stores have the request that deletes several.
        .with_disable_bulk_delete(true)
        .build()
        .map_err(|error| invalid(&error, url))
}

/// The error of settings that the library refuses.
pub(super) fn invalid(error: &object_store::Error, url: &ObjectUrl) -> crate::error::Error {
    // Its own text may hold a value.
    tracing::debug!(kind = ?ObjectFailure::from(error).kind, "the settings of a store are refused");
    let text = format!("{}: the settings of this store in the environment are invalid", url.shown());
    usage(&text, "check the store's variables: `llbatch help data` lists them")
}

/// Reads the profile that `AWS_PROFILE` names, or `default`.
///
/// # Errors
/// 2 if the named profile is nowhere.
fn profile() -> Result<Profile> {
    let named = std::env::var("AWS_PROFILE").ok().filter(|name| !name.is_empty());
    let name = named.as_deref().unwrap_or("default");
    let file = |variable: &str, usual: &str| {
        std::env::var_os(variable)
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".aws").join(usual)))
            .and_then(|path| std::fs::read_to_string(path).ok())
            .unwrap_or_default()
    };
    let config = section(&file("AWS_CONFIG_FILE", "config"), &[&format!("profile {name}"), name]);
    let credentials = section(&file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), &[name]);
    if named.is_some() && config.is_none() && credentials.is_none() {
        return Err(usage(
            &format!("AWS_PROFILE: there is no profile `{name}`"),
            "check ~/.aws/credentials and ~/.aws/config, or unset AWS_PROFILE",
        ));
    }
    // As AWS's tools do, the file of credentials wins.
    let mut profile = config.unwrap_or_default();
    profile.extend(credentials.unwrap_or_default());
    Ok(profile)
}

/// Reads one section of an INI file, the first of `names` that is there.
fn section(text: &str, names: &[&str]) -> Option<Profile> {
    let mut found: Option<Profile> = None;
    let mut inside = false;
    for line in text.lines() {
        let trimmed = line.trim();
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
            inside = names.contains(&&*name);
            if inside {
                found.get_or_insert_default();
            }
        } else if let Some((key, value)) = trimmed.split_once('=')
            && inside
            // An indented line belongs to a setting of its own, such as `s3 =`.
            && !line.starts_with([' ', '\t', '#', ';'])
        {
            found.get_or_insert_default().insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profile_is_read_as_aws_writes_it() {
        let text = "# c\n[default]\naws_access_key_id = A\n\n[profile  big]\nregion=eu-central-1\ns3 =\n  endpoint_url = x\n\
                    [other]\nregion = z\n";
        let big = section(text, &["profile big", "big"]).unwrap();
        assert_eq!(big.get("region").map(String::as_str), Some("eu-central-1"));
        assert!(!big.contains_key("endpoint_url"));
        assert_eq!(section(text, &["default"]).unwrap()["aws_access_key_id"], "A");
        assert!(section(text, &["none"]).is_none());
    }
}
