//! Costs under random faults, kills, limits, retries and cancellations, with cached tokens, images and several choices. After
//! every step, what llbatch reports as spent is on the bill of the service, and the bill holds nothing beyond that but what
//! llbatch reports at risk. The service's prices change between commands: what was done before stays at the earlier price. A
//! price in the config file that is not the service's, while nothing is sent, changes none of these figures.
//!
//! The bill is the sandbox's own, at its own prices. `LLBATCH_CASES=300 cargo test --test it money` tries more nights,
//! `LLBATCH_SEED=N` repeats one.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use fastrand::Rng;
use serde_json::Value;

use crate::support::{Home, Server, post};

/// Tried in every run of the suite.
const CASES: u64 = 6;
/// At once: most of the time is waiting.
const AT_ONCE: u64 = 3;

/// At half price in batches, at full price, and refused by batches; with the prices of a million tokens in USD/1000: of
/// prompts, cached prompts and answers.
const MODELS: [(&str, [u64; 3]); 3] = [
    ("meta-llama/Llama-3.2-3B-Instruct-Turbo", [60, 6, 60]),
    ("Qwen/Qwen2.5-7B-Instruct-Turbo", [300, 30, 300]),
    ("deepseek-ai/DeepSeek-R1", [3000, 300, 7000]),
];

/// Faults of requests. Refusals are few, because a throttled request waits for a second and more.
const FAULTS: [&str; 16] = [
    "status=429,nth=4",
    "status=500,rate=0.15",
    "status=500,rate=0.15,after",
    "status=502,nth=2,after",
    "reset,rate=0.1",
    "reset,rate=0.15,after",
    "close,rate=0.15,after",
    "reset-late,rate=0.1",
    "truncate,rate=0.15",
    "html,rate=0.1",
    "empty-choices,rate=0.15",
    "null-content,rate=0.15",
    "no-usage,rate=0.15",
    "bad-gzip,rate=0.1",
    "hang,rate=0.1,after",
    "status=400,rate=0.1,times=always",
];

/// Answers that no file of a batch mentions.
const LOST: &str = "missing,on=row,rate=0.2";

/// Faults of batches and of their rows.
const BATCH_FAULTS: [&[&str]; 8] = [
    &["--fault", "status=500,on=row,rate=0.3"],
    &["--fault", LOST],
    &["--fault", "garble,on=row,rate=0.2"],
    &["--fault", "duplicate,on=row,rate=0.3"],
    &["--fault", "reset,on=create,after,nth=1"],
    &["--expires-at", "0.5"],
    &["--expires-at", "0.7", "--list-undone"],
    &["--batch-fails", "no room today"],
];

/// The prices in the config file.
#[derive(Clone, Copy)]
enum Prices {
    /// Those of the bill.
    True,
    /// This price for all tokens.
    Other(u32),
}

/// One job and what happens to it.
struct World {
    home: Home,
    server: Server,
    random: Rng,
    /// The steps so far, for the message of a failure.
    log: String,
    /// The last command was killed: not everything is in the ledger yet.
    killed: bool,
    /// The service's prices, in times of its list's.
    times: u64,
}

/// Nano-USD of a JSON amount; `None`: unknown.
fn nanos(amount: &Value) -> Option<u64> {
    // All amounts here are far below the 9 million dollars at which a float stops to tell billionths apart.
    amount.as_f64().map(|usd| (usd * 1e9).round() as u64)
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let mut args = vec!["--latency", "15ms", "--jitter", "0.9", "--batch-run", "150ms"];
        args.extend(["--cached-tokens", ["none", "flat", "nested"][random.usize(..3)]]);
        for _ in 0..random.u8(1..4) {
            args.extend(["--fault", FAULTS[random.usize(..FAULTS.len())]]);
        }
        for _ in 0..random.u8(..3) {
            let more = BATCH_FAULTS[random.usize(..BATCH_FAULTS.len())];
            if !args.contains(&more[0]) || more[0] == "--fault" {
                args.extend(more);
            }
        }
        // If a batch that was cut short does not list its undone rows, a missing row looks like an undone one.
        if args.contains(&LOST) && !args.contains(&"--list-undone") {
            args.push("--list-undone");
        }
        let sandbox_seed = seed.to_string();
        args.extend(["--seed", &sandbox_seed]);
        let log = format!("seed {seed}: serve {}\n", args.join(" "));
        let world = Self { home: Home::new(), server: Server::quick(&args), random, log, killed: false, times: 1 };
        world.home.write("in.jsonl", rows(&mut world.random.clone()));
        world.set_prices(Prices::True);
        world
    }

    /// Writes the config file, which every command reads.
    fn set_prices(&self, prices: Prices) {
        let mut text = "[run]\nconcurrency = 6\nretries = 1\nrequest_timeout = \"300ms\"\n".to_owned();
        for (model, usd) in MODELS {
            let [input, cached, output] = usd.map(|usd| format!("{:.3}", (usd * self.times) as f64 / 1000.0));
            let price = match prices {
                Prices::True => format!("input = {input}\ncached_input = {cached}\noutput = {output}"),
                Prices::Other(usd) => format!("input = {usd}\noutput = {usd}\nbatch_discount = 0.9"),
            };
            let _ = writeln!(text, "[models.\"{model}\"]\n{price}");
        }
        self.home.config(text);
    }

    /// Changes the prices of the service, or not.
    fn change_prices(&mut self) {
        if self.random.u8(..3) > 0 {
            return;
        }
        // The server finishes the requests of a killed command at the price of their time.
        std::thread::sleep(Duration::from_millis(50));
        self.times = self.random.u64(1..8);
        assert_eq!(post(&self.server.address(), "/sandbox/prices", None, &self.times.to_string()).0, 200);
        self.set_prices(Prices::True);
        let _ = writeln!(self.log, "prices: {} times the list's", self.times);
    }

    /// A command to its end, or killed on the way.
    fn act(&mut self, args: &[&str], kill: bool) {
        let shown = args.join(" ");
        let run = self.home.start(self.home.command_at(&self.server.url, args));
        // Writing into a String cannot fail.
        let _ = write!(self.log, "llbatch {shown}: ");
        let code = if kill {
            std::thread::sleep(Duration::from_millis(self.random.u64(5..250)));
            run.kill()
        } else {
            Some(run.wait().code)
        };
        self.killed = code.is_none();
        let _ = writeln!(self.log, "{}", code.map_or("killed".to_owned(), |code| code.to_string()));
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.home.at(&self.server.url, args).code(0).stdout).unwrap()
    }

    /// The one thing that must hold, always.
    fn check(&mut self) {
        let other = [0, 1, 100][self.random.usize(..3)];
        if self.random.bool() {
            self.set_prices(Prices::Other(other));
        }
        self.compare();
        self.set_prices(Prices::True);
    }

    fn compare(&self) {
        // In this order: a bill only grows.
        let ledger = self.json(&["status", "--cost", "--json"]);
        let jobs = self.json(&["status", "--json", "--offline"]);
        let names: Vec<&str> =
            jobs["jobs"].as_array().unwrap().iter().map(|job| job["job"].as_str().unwrap()).collect();
        let (mut settled, mut at_risk, mut report) = (0, 0, String::new());
        for name in names {
            let command = self.home.at(&self.server.url, &["report", name, "--json"]);
            if command.code == 66 {
                // Killed before it had a database.
                continue;
            }
            let document: Value = serde_json::from_str(&command.code(0).stdout).unwrap();
            let cost = &document["cost"];
            let _ = writeln!(report, "{name}: {cost}");
            // Unknown is what answers cost that all came without a usage.
            let usd = nanos(&cost["usd"]).unwrap_or(0);
            settled += usd;
            at_risk +=
                nanos(&cost["at_risk_usd"]).unwrap_or_else(|| panic!("every price is known\n{report}{}", self.log));
            let models = document["models"].as_array().unwrap();
            let sum: u64 = models.iter().filter_map(|model| nanos(&model["usd"])).sum();
            assert_eq!(sum, usd, "models add up: {document}\n{}", self.log);
        }
        let bill = self.server.stats()["bill"].clone();
        let billed = bill["nano_usd"].as_u64().unwrap();
        let report = format!("{report}ledger: {ledger}\nbill: {bill}\n{}", self.log);
        assert!(settled <= billed, "{settled} is said to be spent, {billed} was billed\n{report}");
        assert!(billed <= settled + at_risk, "{billed} was billed, {settled} + {at_risk} is reported\n{report}");
        let recorded = nanos(&ledger["usd"]).unwrap() + nanos(&ledger["unrecorded_usd"]).unwrap();
        assert!(recorded <= settled && (self.killed || recorded == settled), "{recorded}, {settled}\n{report}");
    }

    fn step(&mut self) {
        self.change_prices();
        let kill = self.random.u8(..5) == 0;
        let run = ["run", "in.jsonl", "-o", "out.jsonl", "--summary", "s.json"];
        let realtime = ["retry", "last", "--via", "realtime"];
        let poll = ["--poll", "50ms"];
        let fetch = ["fetch", "last", "-o", "out.jsonl", "--summary", "s.json"];
        match self.random.u8(..10) {
            0 => self.act(&[&run[..], &["--resume"]].concat(), kill),
            1 => self.act(&[&run[..], &["--max-cost", "0.0005"]].concat(), kill),
            2 => self.act(&realtime, kill),
            3 => self.act(&[&realtime[..], &["--max-cost", "0.002"]].concat(), kill),
            4 => self.act(&["retry", "last", "--via", "batch"], kill),
            5 => self.act(&["cancel", "last"], kill),
            6 => self.act(&[&fetch[..], &["--partial"]].concat(), kill),
            7 => self.act(&["submit", "in.jsonl", "--resume"], kill),
            8 => self.act(&[&["wait", "last", "--timeout", "20s"], &poll[..]].concat(), kill),
            _ => self.act(&[&fetch[..], &["--wait", "--timeout", "20s"], &poll].concat(), kill),
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A command that panicked its test said nothing of how it came to that.
        if std::thread::panicking() {
            let _ = std::io::stderr().write_all(self.log.as_bytes());
        }
    }
}

/// Rows of all models, with a bound on their answers and without, some asking for several, some with images.
fn rows(random: &mut Rng) -> String {
    let mut text = String::new();
    for n in 0..random.u32(5..40) {
        let (model, _) = MODELS[random.usize(..MODELS.len())];
        let bound =
            [r#"""#, r#"","max_tokens":20"#, r#"","max_tokens":3"#, r#"","max_tokens":9,"n":3"#][random.usize(..4)];
        let prompt = if random.u8(..5) == 0 {
            let url = [format!("https://example.org/{n}.png"), format!("data:image/png;base64,{}", "A".repeat(400))];
            let image = format!(r#"{{"type":"image_url","image_url":{{"url":"{}"}}}}"#, url[random.usize(..2)]);
            let text = format!(r#"{{"type":"text","text":"question {n}"}}"#);
            format!(r#""messages":[{{"role":"user","content":[{text},{image}]}}]"#)
        } else {
            format!(r#""prompt":"question {n}""#)
        };
        let _ = writeln!(text, r#"{{"id":"q{n}",{prompt},"model":"{model}{bound}}}"#);
    }
    text
}

fn story(seed: u64) {
    let mut world = World::new(seed);
    let kill = world.random.bool();
    match world.random.u8(..4) {
        0 => world.act(&["submit", "in.jsonl"], kill),
        1 => world.act(&["submit", "in.jsonl", "--via", "auto"], kill),
        _ => world.act(&["run", "in.jsonl", "-o", "out.jsonl"], kill),
    }
    world.check();
    for _ in 0..world.random.u8(2..5) {
        world.step();
        world.check();
    }
}

#[test]
fn reported_cost_brackets_the_bill() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    if let Some(seed) = number("LLBATCH_SEED") {
        return story(seed);
    }
    let cases = number("LLBATCH_CASES").unwrap_or(CASES);
    let next = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while next.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < cases {
                    story(fastrand::u64(..1_000_000_000));
                }
            });
        }
    });
}
