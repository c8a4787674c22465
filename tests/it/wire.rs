//! The client for files and batches against the sandbox; each was written independently from the API of the service.

use std::path::Path;
use std::time::{Duration, Instant};

use llbatch::door::batches::{Batch, BatchStatus, Created};
use llbatch::door::{Class, Client, ClientOptions, Failure, Fault, Registered, Upload};
use llbatch::sandbox::{self, BatchConfig, Downloads, Sandbox, SandboxConfig, Unset};
use secrecy::SecretString;

use super::support::{KEY, MODEL, PATIENCE};

const ENDPOINT: &str = "/v1/chat/completions";

fn quick() -> SandboxConfig {
    let batch = BatchConfig {
        validation: Duration::from_millis(5),
        run: Duration::from_millis(20),
        cancel: Duration::from_millis(5),
        ..BatchConfig::default()
    };
    SandboxConfig { batch, ..SandboxConfig::default() }
}

fn start(config: SandboxConfig) -> (Sandbox, Client) {
    let server = sandbox::start(config).unwrap();
    let key = Some(SecretString::from(KEY.to_owned()));
    let (base_url, user_agent) = (server.url.clone(), "wire".to_owned());
    let client = Client::new(&ClientOptions { base_url, key, headers: Vec::new(), user_agent }).unwrap();
    (server, client)
}

fn faulty(faults: &[&str]) -> SandboxConfig {
    SandboxConfig { faults: faults.iter().map(|fault| fault.parse().unwrap()).collect(), ..quick() }
}

/// Batch lines for so many rows.
fn input(rows: usize) -> String {
    let line = |i| {
        format!(
            "{{\"custom_id\":\"row-{i}\",\"body\":{{\"model\":\"{MODEL}\",\"messages\":[{{\"role\":\"user\",\"content\":\"question {i}\"}}]}}}}\n"
        )
    };
    (0..rows).map(line).collect()
}

async fn upload(client: &Client, text: &str) -> Result<Registered, Failure> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let sum = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let sum = sum.as_ref().iter().fold(String::new(), |sum, byte| sum + &format!("{byte:02x}"));
    let upload = Upload { path: file.path(), name: "wire.jsonl", bytes: text.len() as u64, sha256: &sum };
    let registered = client.register(&upload).await?;
    if let Registered::At(id, place) = &registered {
        client.put(place.clone(), &upload, &|_| ()).await?;
        client.preprocess(id).await?;
    }
    Ok(registered)
}

async fn uploaded(client: &Client, rows: usize) -> String {
    match upload(client, &input(rows)).await.unwrap() {
        Registered::At(id, _) => id,
        Registered::AlreadyThere(id) => panic!("{id} was there already"),
    }
}

async fn created(client: &Client, file: &str) -> Batch {
    match client.create_batch(file, ENDPOINT, None).await.unwrap() {
        Created::Batch { batch, .. } => batch,
        Created::NotCreated(why) => panic!("{why}"),
    }
}

async fn ended(client: &Client, id: &str) -> Batch {
    let started = Instant::now();
    loop {
        let batch = client.batch(id).await.unwrap();
        if batch.status.is_final() {
            return batch;
        }
        assert!(started.elapsed() < PATIENCE, "still {}", batch.status);
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

/// Tries until all of it is there; the number of tries.
async fn fetched(client: &Client, id: &str, part: &Path) -> (u64, u32) {
    for tries in 1..20 {
        match client.download(id, part, &|_| ()).await {
            Ok(downloaded) => return (downloaded.length, tries),
            Err(failure) => assert_eq!(failure.class(), Class::Ambiguous, "{failure:?}"),
        }
    }
    panic!("it never comes")
}

#[tokio::test]
async fn batch_runs_from_upload_to_results() {
    for (redirect, ignore_ranges, unset) in
        [(false, false, Unset::Omit), (true, false, Unset::Null), (true, true, Unset::Empty)]
    {
        let config = quick();
        let batch = BatchConfig { unset: Some(unset), ..config.batch.clone() };
        let (_server, client) =
            start(SandboxConfig { downloads: Downloads { redirect, ignore_ranges }, batch, ..config });
        assert!(client.batches().await.unwrap().entries.is_empty());
        let file = uploaded(&client, 50).await;
        let object = client.file(&file).await.unwrap();
        assert_eq!((object.filename.as_str(), object.bytes), ("wire.jsonl", Some(input(50).len() as u64)));
        let batch = created(&client, &file).await;
        assert_eq!(batch.input_file_id.as_deref(), Some(file.as_str()));
        assert_eq!((batch.output_file_id, batch.error_file_id, batch.completed_at), (None, None, None));
        assert!(batch.job_deadline.is_some());
        let listed = client.batches().await.unwrap();
        assert!(listed.complete && listed.entries.iter().map(|b| &b.id).eq([&batch.id]));
        let batch = ended(&client, &batch.id).await;
        assert_eq!((batch.status, batch.error_file_id), (BatchStatus::Completed, None));
        let output = batch.output_file_id.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let part = dir.path().join("part");
        let (length, _) = fetched(&client, &output, &part).await;
        let whole = std::fs::read_to_string(&part).unwrap();
        assert_eq!(length, whole.len() as u64);
        assert_eq!(whole.lines().count(), 50);
        assert_eq!(client.file(&output).await.unwrap().bytes, Some(length));
        // From every kind of beginning the same file comes of it.
        for have in [1, whole.len() / 2, whole.len()] {
            std::fs::write(&part, &whole[..have]).unwrap();
            assert_eq!(
                client.download(&output, &part, &|_| ()).await.map(|file| file.length),
                Ok(length),
                "from {have}"
            );
            assert_eq!(std::fs::read_to_string(&part).unwrap(), whole, "from {have}");
        }
        client.delete_file(&file).await.unwrap();
        client.delete_file(&file).await.unwrap();
        assert_eq!(client.file(&file).await.unwrap_err().fault, Fault::NotFound);
        assert!(client.files().await.unwrap().into_iter().all(|object| object.id != file));
    }
}

#[tokio::test]
async fn same_bytes_are_one_file() {
    let (_server, client) = start(quick());
    let file = uploaded(&client, 2).await;
    assert_eq!(upload(&client, &input(2)).await, Ok(Registered::AlreadyThere(file)));
}

#[tokio::test]
async fn cancelled_batch_ends_as_cancelled() {
    let config = quick();
    let batch = BatchConfig { run: Duration::from_mins(10), ..config.batch.clone() };
    let (_server, client) = start(SandboxConfig { batch, ..config });
    let batch = created(&client, &uploaded(&client, 3).await).await;
    let status = client.cancel_batch(&batch.id).await.unwrap().status;
    assert!(matches!(status, BatchStatus::Canceling | BatchStatus::Cancelled), "{status}");
    assert_eq!(ended(&client, &batch.id).await.status, BatchStatus::Cancelled);
}

#[tokio::test]
async fn failed_batch_carries_its_reason() {
    let config = quick();
    let batch = BatchConfig { fails: Some("line 1 is bad".to_owned()), ..config.batch.clone() };
    let (_server, client) = start(SandboxConfig { batch, ..config });
    let batch = created(&client, &uploaded(&client, 1).await).await;
    let batch = ended(&client, &batch.id).await;
    assert_eq!((batch.status, batch.error.as_deref()), (BatchStatus::Failed, Some("line 1 is bad")));
}

#[tokio::test]
async fn lost_create_is_found_in_the_list() {
    for fault in ["reset,on=create,after,times=1", "status=500,on=create,after,times=1", "html,on=create,after,times=1"]
    {
        let (_server, client) = start(faulty(&[fault]));
        let file = uploaded(&client, 1).await;
        let failure = client.create_batch(&file, ENDPOINT, None).await.unwrap_err();
        assert!(failure.create_unknown(), "{fault}: {failure:?}");
        let listed = client.batches().await.unwrap();
        assert!(listed.complete);
        let ours = listed.entries.iter().filter(|b| b.input_file_id.as_deref() == Some(&file)).count();
        assert_eq!(ours, 1, "{fault}");
    }
    let (_server, client) = start(faulty(&["null-job,on=create"]));
    let file = uploaded(&client, 1).await;
    assert!(matches!(client.create_batch(&file, ENDPOINT, None).await, Ok(Created::NotCreated(_))));
    let (_server, client) = start(faulty(&["status=429,on=create,retry-after=7"]));
    let failure = client.create_batch(&uploaded(&client, 1).await, ENDPOINT, None).await.unwrap_err();
    assert_eq!((failure.class(), failure.wait), (Class::AboveRate, Some(Duration::from_secs(7))));
}

#[tokio::test]
async fn broken_download_resumes() {
    for ignore_ranges in [false, true] {
        for fault in ["truncate,on=content,times=2", "reset-late,on=content,times=2"] {
            let (_server, client) =
                start(SandboxConfig { downloads: Downloads { redirect: false, ignore_ranges }, ..faulty(&[fault]) });
            let batch = created(&client, &uploaded(&client, 200).await).await;
            let output = ended(&client, &batch.id).await.output_file_id.unwrap();
            let dir = tempfile::tempdir().unwrap();
            let part = dir.path().join("part");
            let (length, tries) = fetched(&client, &output, &part).await;
            assert_eq!((client.file(&output).await.unwrap().bytes, tries), (Some(length), 3), "{fault}");
            assert_eq!(std::fs::read_to_string(&part).unwrap().lines().count(), 200, "{fault}");
        }
    }
}

#[tokio::test]
async fn half_failed_upload_is_repeated() {
    for fault in
        ["reset,on=put,nth=1", "status=503,on=put,nth=1", "status=500,on=preprocess,nth=1", "close,on=register,nth=1"]
    {
        let (_server, client) = start(faulty(&[fault]));
        let failure = upload(&client, &input(3)).await.unwrap_err();
        assert!(matches!(failure.class(), Class::Ambiguous | Class::NoCapacity), "{fault}: {failure:?}");
        let id = match upload(&client, &input(3)).await.unwrap() {
            Registered::At(id, _) => id,
            // The bytes had arrived; the last step is still to do.
            Registered::AlreadyThere(id) => {
                assert_eq!(client.file(&id).await.unwrap().processed, Some(false), "{fault}");
                client.preprocess(&id).await.unwrap().id
            }
        };
        assert_eq!(client.file(&id).await.unwrap().processed, Some(true), "{fault}");
        let batch = created(&client, &id).await;
        assert_eq!(ended(&client, &batch.id).await.status, BatchStatus::Completed, "{fault}");
    }
}

#[tokio::test]
async fn unknown_batch_is_not_found() {
    let (_server, client) = start(quick());
    let unknown = "00000000-0000-4000-8000-000000000000";
    let dir = tempfile::tempdir().unwrap();
    let failures = [
        client.batch(unknown).await.unwrap_err(),
        client.cancel_batch(unknown).await.unwrap_err(),
        client.file(unknown).await.unwrap_err(),
        client.download(unknown, &dir.path().join("part"), &|_| ()).await.unwrap_err(),
    ];
    for failure in failures {
        assert_eq!((failure.fault, failure.model_unknown), (Fault::NotFound, false), "{failure:?}");
    }
}
