//! The floor of `llbatch run`: the least that a program must do to answer a JSONL file and keep what it paid for.
//!
//! ```text
//! floor INPUT OUTPUT URL IN_FLIGHT
//! ```
//!
//! It reads batch lines, posts each body to URL, reads the usage of the answer, appends the answer to a journal before the
//! next request of the same worker leaves, syncs the journal once a second, and writes the results in input order. It
//! works on one thread, without retries, limits, TLS, proxies or checks. `run.sh` measures llbatch against it.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Uri, header};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::value::RawValue;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Time between two syncs of the journal.
const SYNC: Duration = Duration::from_secs(1);
/// Bytes of results that are written at once.
const WRITE: usize = 64 << 10;

/// A line of the input.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    custom_id: Cow<'a, str>,
    #[serde(borrow)]
    body: &'a RawValue,
}

/// The part of an answer that is looked at.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    choices: Option<&'a RawValue>,
    usage: Usage,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
}

/// A row that is to be sent.
struct Row {
    number: u64,
    id: String,
    body: Bytes,
    fingerprint: [u8; 16],
}

/// The files and what is between them. All workers share it.
struct Files {
    input: BufReader<File>,
    line: Vec<u8>,
    read: u64,
    journal: File,
    pending: Vec<u8>,
    synced: Instant,
    results: File,
    lines: Vec<u8>,
    written: u64,
    window: VecDeque<Option<Vec<u8>>>,
    tokens: u64,
}

impl Files {
    fn next(&mut self) -> Outcome<Option<Row>> {
        self.line.clear();
        if self.input.read_until(b'\n', &mut self.line)? == 0 {
            return Ok(None);
        }
        let line: Line<'_> = serde_json::from_slice(&self.line)?;
        let body = line.body.get().as_bytes();
        let mut fingerprint = [0; 16];
        fingerprint.copy_from_slice(&blake3::hash(body).as_bytes()[..16]);
        let row =
            Row { number: self.read, id: line.custom_id.into_owned(), body: Bytes::copy_from_slice(body), fingerprint };
        self.read += 1;
        Ok(Some(row))
    }

    /// Keeps an answer, and writes the results whose turn has come.
    fn keep(&mut self, row: &Row, status: u16, body: &[u8]) -> Outcome<()> {
        let answer: Answer<'_> = serde_json::from_slice(body)?;
        if answer.choices.is_none() {
            return Err("an answer without choices".into());
        }
        self.tokens += answer.usage.prompt_tokens + answer.usage.completion_tokens;
        let usage = answer.usage;
        for number in [row.number, usage.prompt_tokens, usage.completion_tokens, body.len() as u64] {
            self.pending.extend_from_slice(&number.to_le_bytes());
        }
        self.pending.extend_from_slice(&row.fingerprint);
        self.pending.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
        self.pending.extend_from_slice(body);

        let mut line = Vec::with_capacity(body.len() + row.id.len() + 80);
        line.extend_from_slice(b"{\"custom_id\":");
        serde_json::to_writer(&mut line, &row.id)?;
        write!(line, ",\"response\":{{\"status_code\":{status},\"body\":")?;
        line.extend_from_slice(body);
        line.extend_from_slice(b"},\"error\":null}\n");
        let ahead = usize::try_from(row.number - self.written)?;
        if self.window.len() <= ahead {
            self.window.resize(ahead + 1, None);
        }
        self.window[ahead] = Some(line);
        while let Some(Some(line)) = self.window.front() {
            self.lines.extend_from_slice(line);
            self.window.pop_front();
            self.written += 1;
        }
        if self.lines.len() >= WRITE {
            self.results.write_all(&self.lines)?;
            self.lines.clear();
        }
        Ok(())
    }

    /// Writes the journal. Answers that came in the same turn are written together.
    fn commit(&mut self) -> Outcome<()> {
        if !self.pending.is_empty() {
            self.journal.write_all(&self.pending)?;
            self.pending.clear();
        }
        if self.synced.elapsed() >= SYNC {
            self.journal.sync_data()?;
            self.synced = Instant::now();
        }
        Ok(())
    }

    fn finish(&mut self) -> Outcome<()> {
        self.commit()?;
        self.journal.sync_data()?;
        self.results.write_all(&self.lines)?;
        Ok(self.results.sync_all()?)
    }
}

/// Answers rows until the input ends.
async fn work(client: Client<HttpConnector, Full<Bytes>>, uri: Uri, files: Rc<RefCell<Files>>) -> Outcome<()> {
    loop {
        let Some(row) = files.borrow_mut().next()? else { return Ok(()) };
        let request = Request::post(uri.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, "Bearer no-real-key")
            .body(Full::new(row.body.clone()))?;
        let response = client.request(request).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        files.borrow_mut().keep(&row, status, body.trim_ascii_end())?;
        tokio::task::yield_now().await;
        files.borrow_mut().commit()?;
    }
}

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, input, output, url, in_flight] = &args[..] else { return Err("floor INPUT OUTPUT URL IN_FLIGHT".into()) };
    let files = Rc::new(RefCell::new(Files {
        input: BufReader::with_capacity(256 << 10, File::open(input)?),
        line: Vec::new(),
        read: 0,
        journal: File::create(format!("{output}.journal"))?,
        pending: Vec::new(),
        synced: Instant::now(),
        results: File::create(output)?,
        lines: Vec::new(),
        written: 0,
        window: VecDeque::new(),
        tokens: 0,
    }));
    let uri: Uri = url.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = tokio::task::LocalSet::new();
    runtime.block_on(tasks.run_until(async {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(usize::MAX).build(tcp);
        let start = |_| tokio::task::spawn_local(work(client.clone(), uri.clone(), Rc::clone(&files)));
        let workers: Vec<_> = (0..in_flight.parse::<usize>()?).map(start).collect();
        for worker in workers {
            worker.await??;
        }
        Outcome::Ok(())
    }))?;
    let mut files = files.borrow_mut();
    files.finish()?;
    writeln!(std::io::stdout(), "{} rows, {} tokens", files.written, files.tokens)?;
    Ok(())
}
