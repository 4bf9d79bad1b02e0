//! The text of a list, written while the client reads it: one of thousands of objects is never in memory a second time.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use minisvc_store::Record;

use crate::stored;

/// A piece ends with the object that makes it as long as this.
const PIECE: usize = 64 * 1024;

/// Behind the last object; a JSON answer ends with a newline.
const END: &[u8] = b"]}\n";

/// The body of a list of objects that are served as they are stored.
pub(crate) struct ListBody {
    /// What comes before the first object, until it is sent.
    head: Bytes,
    records: std::vec::IntoIter<Arc<Record>>,
    /// Bytes still to come.
    left: usize,
    begun: bool,
}

impl ListBody {
    /// `head` ends with the bracket that opens the list.
    pub(crate) fn new(head: String, records: Vec<Arc<Record>>) -> Self {
        // Each object has the brace that it begins with, and all but the first a comma before it.
        let items: usize = records.iter().map(|record| stored::without_type(&record.value).len() + 2).sum();
        let left = head.len() + items.saturating_sub(1) + END.len();
        Self { head: head.into(), records: records.into_iter(), left, begun: false }
    }

    fn piece(&mut self) -> Bytes {
        let mut piece = BytesMut::with_capacity(self.left.min(PIECE + PIECE / 4));
        piece.put_slice(&std::mem::take(&mut self.head));
        while piece.len() < PIECE {
            let Some(record) = self.records.next() else {
                piece.put_slice(END);
                break;
            };
            piece.put_slice(if self.begun { b",{" } else { b"{" });
            piece.put_slice(stored::without_type(&record.value));
            self.begun = true;
        }
        self.left = self.left.saturating_sub(piece.len());
        piece.freeze()
    }
}

impl Body for ListBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready((self.left > 0).then(|| Ok(Frame::data(self.piece()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.left).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use http_body_util::BodyExt as _;
    use minisvc_store::{Head, Key, Revision};
    use serde_json::{Value, json};

    use super::*;

    fn record(number: usize) -> Arc<Record> {
        let object = json!({
            "kind": "ConfigMap", "apiVersion": "v1",
            "metadata": {"name": number.to_string(), "resourceVersion": "1"}, "data": {"x": "y".repeat(number)},
        });
        let value = stored::encode(&object);
        let key = Key::new("configmaps", "default", number.to_string());
        Arc::new(Record { key, revision: Revision(1), head: Head::default(), value })
    }

    //
    #[test]
    fn a_list_is_as_long_as_it_says_and_whole_however_many_pieces_it_takes() {
        for (count, pieces) in [(0, 1), (1, 1), (2, 1), (700, 5)] {
            let records: Vec<_> = (0..count).map(record).collect();
            let mut body = ListBody::new("{\"items\":[".to_owned(), records);
            let said = body.size_hint().exact().unwrap();
            let (mut text, mut seen) = (Vec::new(), 0);
            while let Some(frame) = body.frame().now_or_never().unwrap() {
                assert!(!text.is_empty() || !body.is_end_stream() || pieces == 1);
                text.extend_from_slice(&frame.unwrap().into_data().unwrap());
                seen += 1;
                assert_eq!(body.size_hint().exact().unwrap(), said - u64::try_from(text.len()).unwrap());
            }
            assert!(body.is_end_stream());
            assert_eq!((u64::try_from(text.len()).unwrap(), seen), (said, pieces), "{count} objects");
            let list: Value = serde_json::from_slice(&text).unwrap();
            let items = list["items"].as_array().unwrap();
            assert_eq!(items.len(), count);
            let names = items.iter().map(|item| item["metadata"]["name"].as_str().unwrap_or_default().to_owned());
            assert!(names.eq((0..count).map(|number| number.to_string())));
            assert!(text.ends_with(b"]}\n"));
        }
    }
}
