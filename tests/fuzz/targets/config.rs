//! The config file: what is wrong with it is a usage error that names the line or the key; what is right holds.
//!
//! Input: the file.
#![no_main]

use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use llbatch::door::{AutoOr, Exit, Flags, Nanos, Settings};
use llbatch_fuzz::Scratch;

/// Keys whose values are looked at when the file as a whole is read.
const LATE: [&str; 7] = ["settle_after", "per_day", "per_month", "input", "output", "batch_discount", "service"];

fuzz_target!(|data: &[u8]| {
    let file = Scratch::of(data);
    let path = file.path();
    let flags =
        Flags { config: Some(path.clone()), state_dir: Some(PathBuf::from("/nonexistent")), ..Flags::default() };
    let resolve = || Settings::resolve(&flags, &|_| None);
    match resolve() {
        Err(error) => {
            assert_eq!(error.exit, Exit::Usage);
            let text = error.to_string();
            let message = text.strip_prefix("config file").unwrap_or_else(|| panic!("{text}"));
            let lines = data.split(|byte| *byte == b'\n').count();
            let message = message.replace(&path.display().to_string(), "");
            let line = message.split_once("line ").map(|(_, rest)| {
                rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
            });
            match line {
                Some(line) => assert!((1..=lines).contains(&line), "{text}"),
                None => assert!(LATE.iter().any(|key| message.contains(key)), "neither line nor key: {text}"),
            }
            assert_eq!(resolve().expect_err("the same again").to_string(), text);
        }
        Ok(settings) => {
            assert!(settings.config_found);
            for knob in [settings.run.concurrency, settings.run.rpm, settings.run.tpm] {
                assert_ne!(knob, Some(AutoOr::Fixed(0)));
            }
            for budget in [settings.budget.per_day, settings.budget.per_month].into_iter().flatten() {
                assert!(budget > Nanos::ZERO);
                assert_eq!(budget.to_string().parse(), Ok(budget));
                assert!(budget.human().starts_with(['$', '<']), "{}", budget.human());
            }
            for entry in settings.prices.iter() {
                if let (Some(price), Some(batch)) = (entry.price, entry.batch_price()) {
                    assert!(batch.input <= price.input && batch.output <= price.output, "{entry:?}");
                }
            }
            assert!(std::str::from_utf8(data).is_ok());
            let run = &settings.run;
            assert_eq!(format!("{:?}", resolve().expect("the same again").run), format!("{run:?}"));
        }
    }
});
