//! `GET /sandbox/stats`: what was asked, made and paid for, for tests that prove that nothing was lost or paid twice.

use std::io;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::app::App;
use super::lifecycle::BatchRecord;
use super::produce::{kept_paid, settle};
use super::reply::Reply;
use super::state::{Folder, now_ms};
use super::stats::Bill;

/// The counters of this server, and every batch job of its state, also those that another server made or ended.
pub async fn stats(State(app): State<Arc<App>>) -> Response {
    let _one = app.settling.lock().await;
    let work = Arc::clone(&app);
    app.blocking(move || {
        let document = document(&work)?;
        Ok(Reply::json(StatusCode::OK, serde_json::to_string_pretty(&document)?))
    })
    .await
    .into_response()
}

fn document(app: &App) -> io::Result<Value> {
    let now = now_ms();
    let mut jobs: Vec<BatchRecord> = app.store.all(Folder::Batches)?;
    jobs.sort_by(|a, b| (a.created_ms, &a.id).cmp(&(b.created_ms, &b.id)));
    let (mut batches, mut elsewhere, mut paid) = (Bill::default(), Bill::default(), Vec::new());
    for job in &mut jobs {
        // A job that ended unseen has its price all the same.
        if job.is_due(now)
            && let Some(settled) = settle(app, &job.id)?
        {
            *job = settled;
        }
        let Some(result) = &job.result else { continue };
        batches.add(result.bill);
        if result.instance != app.instance {
            elsewhere.add(result.bill);
            if app.config.track {
                paid.extend(kept_paid(app, &job.id)?);
            }
        }
    }
    let shown = |job: &BatchRecord| {
        json!({
            "id": job.id,
            "input_file_id": job.input_file_id,
            "rows": job.rows,
            "status": job.status(now).name(),
        })
    };
    let mut seen = serde_json::to_value(app.stats.snapshot_with(elsewhere, &paid))?;
    seen["batches"] = json!({
        "created": jobs.len(),
        "bill": batches,
        "jobs": jobs.iter().map(shown).collect::<Vec<_>>(),
    });
    Ok(seen)
}
