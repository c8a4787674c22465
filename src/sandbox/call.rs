//! An HTTP request to any route but inference: counted, met by its fault, and done if its key is right.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::response::Response;

use super::app::{App, bearer};
use super::dialect::ServedDialect;
use super::errors;
use super::faults::{ErrorShape, FaultKind, Scope, ScriptedError};
use super::injector::Subject;
use super::listener::Conn;
use super::openai_errors;
use super::reply::{HttpReply, Refused};
use super::request::hash;
use super::spoil;

/// A route as the counters and the faults know it.
#[derive(Debug, Clone, Copy)]
pub struct ApiRoute {
    pub path: &'static str,
    pub scope: Scope,
}

impl ApiRoute {
    pub const fn new(path: &'static str, scope: Scope) -> Self {
        Self { path, scope }
    }
}

/// A request to one of the routes, without its body.
#[derive(Debug)]
pub struct Call {
    pub app: Arc<App>,
    pub conn: Conn,
    pub headers: HeaderMap,
    /// The query of the URL, or an empty text.
    pub query: String,
}

impl FromRequestParts<Arc<App>> for Call {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Infallible> {
        let conn = parts.extensions.get::<ConnectInfo<Conn>>().map(|ConnectInfo(conn)| conn.clone());
        Ok(Self {
            app: Arc::clone(app),
            conn: conn.unwrap_or_default(),
            headers: std::mem::take(&mut parts.headers),
            query: parts.uri.query().unwrap_or_default().to_owned(),
        })
    }
}

impl Call {
    /// Answers with the result of `work`, which may block on the disk. Faults of one `subject` share their attempts.
    pub async fn answer<W>(self, route: ApiRoute, subject: &str, work: W) -> Response
    where
        W: FnOnce(&App) -> Result<HttpReply, Refused> + Send + 'static,
    {
        self.keyed(route, subject, self.app.blocking(work)).await
    }

    /// Answers with the result of `work` on the object with this id.
    pub async fn about<W>(self, route: ApiRoute, id: String, work: W) -> Response
    where
        W: FnOnce(&App, &str) -> Result<HttpReply, Refused> + Send + 'static,
    {
        let subject = id.clone();
        self.answer(route, &subject, move |app| work(app, &id)).await
    }

    /// Runs `work` if the request's key is right.
    pub async fn keyed(&self, route: ApiRoute, subject: &str, work: impl Future<Output = HttpReply>) -> Response {
        let work = async {
            if self.app.key(&self.headers).is_none() {
                let openai = self.app.config.dialect == ServedDialect::Openai;
                return errors::unauthorized(if openai { Scope::Any } else { route.scope });
            }
            work.await
        };
        self.serve(route, subject, work).await
    }

    /// Counts the request and answers it with `work`, or with the fault that strikes it.
    pub async fn serve(&self, route: ApiRoute, subject: &str, work: impl Future<Output = HttpReply>) -> Response {
        let counted = self.app.stats.request(route.path);
        let subject =
            Subject { scope: route.scope, key: hash(subject) ^ hash(route.path), text: subject, streams: false };
        let response = match self.app.faults.pick(subject).unwrap_or_default() {
            None => work.await.into_response(),
            Some(mut fault) => {
                if let FaultKind::Status(error) = &mut fault.kind
                    && error.shape == ErrorShape::Usual
                    && route.scope.is_batches()
                    && self.app.config.dialect == ServedDialect::Together
                {
                    error.shape = ErrorShape::Bare;
                }
                let reply = if fault.works_first() { Some(work.await) } else { None };
                match self.without_money(&fault.kind) {
                    Some(refusal) => refusal.into_response(),
                    None => self.strike(&fault.kind, reply).await,
                }
            }
        };
        counted.answered(self.conn.shown_status(&response));
        response
    }

    /// The refusal of an account without money, which has a form of its own in `OpenAI`'s dialect.
    fn without_money(&self, kind: &FaultKind) -> Option<HttpReply> {
        let FaultKind::Status(error @ ScriptedError { code: 402, shape: ErrorShape::Usual, .. }) = kind else {
            return None;
        };
        let openai = self.app.config.dialect == ServedDialect::Openai;
        openai.then(|| {
            self.app.stats.fault();
            openai_errors::refusal(error.reply())
        })
    }

    /// Counts a fault and answers with it. The `reply` is the right one, if the work was done.
    pub async fn strike(&self, kind: &FaultKind, reply: Option<HttpReply>) -> Response {
        self.app.stats.fault();
        let key = bearer(&self.headers).unwrap_or_default();
        match reply {
            Some(reply) => spoil::spoil(kind, reply, &self.conn, key).await,
            None => spoil::instead(kind, &self.conn, key).await,
        }
    }
}
