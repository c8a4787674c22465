//! Rows that share one request (`--pack`): their bodies are equal but for `input`, which becomes a list.

use std::ops::Range;

use super::{Endpoint, Request};
use crate::json;
use crate::tokens::Estimator;

/// Tokens that a model adds to each text: one at its beginning and one at its end.
const AROUND: u64 = 2;
/// Bytes of the inputs of one request. Services bound a request's tokens, and a refused pack costs a round.
const MOST_BYTES: usize = 4 << 20;
/// Packs that are filled at the same time. An input with more kinds of bodies closes the oldest pack early.
const OPEN: usize = 8;

/// A row of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedRow {
    /// Its own request.
    pub request: Request,
    /// Estimated tokens of its input, by which counts are divided.
    pub weight: u64,
    /// The place of the input in its body.
    input: Range<usize>,
}

/// Rows that share one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedRows {
    rows: Vec<PackedRow>,
}

impl PackedRow {
    /// Returns the row, or its request if it can share none: its input is not one text.
    #[expect(clippy::result_large_err, reason = "the request is passed on")]
    fn new(request: Request, longest: Option<u64>) -> Result<Self, Request> {
        let members = json::members(&request.body).unwrap_or_default();
        let mut inputs = members.iter().filter(|member| member.key == Endpoint::Embeddings.subject());
        let (Some(input), None) = (inputs.next(), inputs.next()) else { return Err(request) };
        let Some(text) = json::string(input.value) else { return Err(request) };
        let tokens = Estimator::shared().text(&text) + AROUND;
        // The model cuts a longer text, and the rest is not billed.
        let weight = longest.map_or(tokens, |longest| tokens.min(longest));
        let input = input.end - input.value.len()..input.end;
        Ok(Self { request, weight, input })
    }

    fn input(&self) -> &str {
        &self.request.body[self.input.clone()]
    }

    /// Returns true if the bodies are equal but for their inputs.
    fn fits(&self, other: &Self) -> bool {
        let (own, its) = (&self.request.body, &other.request.body);
        own[..self.input.start] == its[..other.input.start] && own[self.input.end..] == its[other.input.end..]
    }
}

impl PackedRows {
    /// The rows, in the order of the input.
    pub fn rows(&self) -> &[PackedRow] {
        &self.rows
    }

    /// The last row's request. `None`: there are no rows.
    pub fn last(&self) -> Option<&Request> {
        self.rows.last().map(|row| &row.request)
    }

    /// The estimated tokens of each input.
    pub fn weights(&self) -> Vec<u64> {
        self.rows.iter().map(|row| row.weight).collect()
    }

    /// The body that asks for the embeddings of all rows. For a single row it is the row's own.
    pub fn body(&self) -> String {
        let [first, _, ..] = &self.rows[..] else {
            return self.rows.first().map(|row| row.request.body.to_string()).unwrap_or_default();
        };
        let own = &first.request.body;
        let mut body = String::with_capacity(own.len() + self.bytes());
        body.push_str(&own[..first.input.start]);
        for (i, row) in self.rows.iter().enumerate() {
            body.push(if i == 0 { '[' } else { ',' });
            body.push_str(row.input());
        }
        body.push(']');
        body.push_str(&own[first.input.end..]);
        body
    }

    /// Takes the second half of the rows out. Of a single row, nothing.
    pub fn split_off(&mut self) -> Self {
        Self { rows: self.rows.split_off(self.rows.len().div_ceil(2)) }
    }

    /// The bytes of all bodies.
    pub fn bytes(&self) -> usize {
        self.rows.iter().map(|row| row.request.body.len()).sum()
    }
}

/// A request on its way out, of one row or of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutRequest {
    /// A row of its own.
    Row(Request),
    /// Rows that share a request.
    Pack(PackedRows),
}

impl OutRequest {
    /// The numbers of its rows.
    pub fn row_numbers(&self) -> impl Iterator<Item = u64> {
        let (one, pack) = match self {
            Self::Row(request) => (Some(request.row), None),
            Self::Pack(rows) => (None, Some(rows.rows())),
        };
        one.into_iter().chain(pack.into_iter().flatten().map(|row| row.request.row))
    }

    /// The number of its last row.
    pub fn last_row(&self) -> u64 {
        self.row_numbers().last().unwrap_or(0)
    }

    /// The bytes that are going to be sent, roughly.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Row(request) => request.body.len(),
            Self::Pack(rows) => rows.bytes(),
        }
    }
}

/// Fills packs with rows.
#[derive(Debug)]
pub struct Packer {
    most: usize,
    /// The oldest first. No two could be one.
    open: Vec<PackedRows>,
}

impl Packer {
    /// Puts up to `most` rows into a request.
    pub const fn new(most: usize) -> Self {
        Self { most, open: Vec::new() }
    }

    /// Takes a row. Returns a request that is ready: this one, or a pack that is full or has to make room. `longest`: the
    /// tokens to which the model cuts an input.
    pub fn add(&mut self, request: Request, longest: Option<u64>) -> Option<OutRequest> {
        let row = match PackedRow::new(request, longest) {
            Ok(row) => row,
            Err(request) => return Some(OutRequest::Row(request)),
        };
        let place = self.open.iter().position(|pack| pack.rows.first().is_some_and(|first| first.fits(&row)));
        let full = |pack: &PackedRows| pack.bytes() + row.request.body.len() > MOST_BYTES;
        let closed = match place {
            Some(place) if full(&self.open[place]) => Some(self.open.remove(place)),
            None if self.open.len() >= OPEN => Some(self.open.remove(0)),
            Some(place) => {
                let pack = &mut self.open[place];
                pack.rows.push(row);
                return (pack.rows.len() >= self.most).then(|| OutRequest::Pack(self.open.remove(place)));
            }
            None => None,
        };
        self.open.push(PackedRows { rows: vec![row] });
        closed.map(OutRequest::Pack)
    }

    /// The packs that are not full, at the end of the input.
    pub fn rest(self) -> impl Iterator<Item = OutRequest> {
        self.open.into_iter().map(OutRequest::Pack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attached::Attachments;
    use crate::outcome::Fingerprint;
    use crate::tokens::Media;

    fn request(row: u64, body: &str) -> Request {
        Request {
            row,
            id: format!("r{row}").into(),
            generated_id: false,
            model: "m".into(),
            body: body.into(),
            fingerprint: Fingerprint::default(),
            stream_removed: false,
            max_tokens: None,
            files: Attachments::default(),
            media: Media::default(),
            answers: Some(0),
            repeated: 0,
        }
    }

    /// The bodies of the requests that a packer makes of these.
    fn packed(most: usize, bodies: &[&str]) -> Vec<String> {
        let mut packer = Packer::new(most);
        let rows = (1..).zip(bodies).filter_map(|(row, body)| packer.add(request(row, body), None));
        let mut out: Vec<_> = rows.collect();
        out.extend(packer.rest());
        let body = |one: &OutRequest| match one {
            OutRequest::Row(request) => request.body.to_string(),
            OutRequest::Pack(rows) => rows.body(),
        };
        out.iter().map(body).collect()
    }

    #[test]
    fn rows_whose_bodies_are_equal_but_for_the_input_share_a_request() {
        let expected = [
            r#"{"input":["a","b\n"],"model":"m"}"#,
            r#"{"input":["x"],"model":"m"}"#,
            r#"{"model":"n","input":["d","e"]}"#,
            r#"{"input":"c","model":"m"}"#,
        ];
        let bodies = [
            r#"{"input":"a","model":"m"}"#,
            r#"{"model":"n","input":"d"}"#,
            r#"{"input":"b\n","model":"m"}"#,
            r#"{"input":["x"],"model":"m"}"#,
            r#"{"input":"c","model":"m"}"#,
            r#"{"model":"n","input":"e"}"#,
        ];
        assert_eq!(packed(2, &bodies), expected);
        // Which of two inputs counts is the service's matter.
        for alone in [r#"{"input":"a","input":"b"}"#, r#"{"input":7}"#, r#"{"input":"\ud800"}"#] {
            assert_eq!(packed(9, &[alone, alone]), [alone, alone]);
        }
    }

    #[test]
    fn packs_are_bounded_in_bytes_and_in_number() {
        let long = format!(r#"{{"input":"{}"}}"#, "x ".repeat(MOST_BYTES / 4));
        assert_eq!(packed(9, &[&long, &long, "{\"input\":\"a\"}"]).len(), 2);
        let kinds: Vec<String> = (0..=OPEN).map(|n| format!(r#"{{"input":"a","dimensions":{n}}}"#)).collect();
        let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
        let mut packer = Packer::new(9);
        let early = |(row, body): (u64, &&str)| packer.add(request(row, body), None).map(|_| row);
        assert_eq!((1..).zip(&kinds).filter_map(early).collect::<Vec<_>>(), [OPEN as u64 + 1]);
    }

    #[test]
    fn pack_is_halved_down_to_single_rows() {
        let mut packer = Packer::new(3);
        let add = |row| packer.add(request(row, &format!(r#"{{"input":"{row}"}}"#)), Some(9));
        let Some(OutRequest::Pack(mut pack)) = (1..=3).find_map(add) else { panic!("no pack") };
        assert_eq!(pack.weights(), [3, 3, 3]);
        let mut second = pack.split_off();
        let rows = |pack: &PackedRows| pack.rows().iter().map(|row| row.request.row).collect::<Vec<_>>();
        assert_eq!((rows(&pack), rows(&second)), (vec![1, 2], vec![3]));
        assert_eq!(second.body(), r#"{"input":"3"}"#);
        assert!(second.split_off().rows().is_empty());
    }
}
