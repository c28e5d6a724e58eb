//! Server-sent events (WHATWG HTML, "Server-sent events"): bytes in, the data of events out. No I/O.

/// An event of a chat API is a few tokens with some JSON around them.
const EVENT_LIMIT_BYTES: usize = 256 << 10;

/// An event is longer than any of a chat API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EventTooLong;

/// Reads a stream that arrives in any pieces.
#[derive(Debug, Default)]
pub(super) struct SseReader {
    /// The line that has not ended.
    line: Vec<u8>,
    /// The `data` lines of the event that has not ended.
    data: Option<Vec<u8>>,
    /// The last byte was a carriage return: a line feed after it belongs to it, wherever the pieces are cut.
    after_return: bool,
    has_line: bool,
}

impl SseReader {
    /// The data of the events that this piece ends, in order.
    pub(super) fn read(&mut self, piece: &[u8]) -> Result<Vec<Vec<u8>>, EventTooLong> {
        let mut events = Vec::new();
        for &byte in piece {
            let is_second = byte == b'\n' && self.after_return;
            self.after_return = byte == b'\r';
            if is_second {
                continue;
            }
            if matches!(byte, b'\r' | b'\n') {
                events.extend(self.end_line());
                continue;
            }
            self.line.push(byte);
            if self.line.len() + self.data.as_ref().map_or(0, Vec::len) > EVENT_LIMIT_BYTES {
                return Err(EventTooLong);
            }
        }
        Ok(events)
    }

    /// Takes the finished line; an empty one ends the event.
    fn end_line(&mut self) -> Option<Vec<u8>> {
        let line = std::mem::take(&mut self.line);
        let mut line = line.as_slice();
        if !std::mem::replace(&mut self.has_line, true) {
            line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
        }
        if line.is_empty() {
            return self.data.take();
        }
        // A comment has an empty name; `event`, `id` and `retry` say nothing in a chat API.
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = colon.map_or((line, &[][..]), |at| (&line[..at], &line[at + 1..]));
        if name == b"data" {
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match &mut self.data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => self.data = Some(value.to_vec()),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(pieces: &[&[u8]]) -> Vec<String> {
        let mut reader = SseReader::default();
        let events = pieces.iter().flat_map(|piece| reader.read(piece).unwrap());
        events.map(|event| String::from_utf8(event).unwrap()).collect()
    }

    #[test]
    fn events_are_read_as_the_standard_says() {
        for (text, want) in [
            ("data: a\n\ndata: b\r\n\r\ndata:c\r\r", vec!["a", "b", "c"]),
            (": hello\n\ndata: a\nevent: x\nid: 1\nretry: 5\ndata:  b\n\n", vec!["a\n b"]),
            ("\u{feff}data: a\n\n", vec!["a"]),
            ("data\n\ndatum: x\n\n", vec![""]),
            ("data: unfinished\n", vec![]),
            ("data: unfinished", vec![]),
            ("\n\n\r\n", vec![]),
        ] {
            assert_eq!(read(&[text.as_bytes()]), want, "{text:?}");
        }
    }

    #[test]
    fn an_endless_line_and_an_endless_event_are_refused() {
        let long = vec![b'x'; EVENT_LIMIT_BYTES + 1];
        assert_eq!(SseReader::default().read(&long), Err(EventTooLong));
        let mut reader = SseReader::default();
        let line = format!("data: {}\n", "y".repeat(10_000));
        assert!((0..100).any(|_| reader.read(line.as_bytes()).is_err()));
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(
            lines in prop::collection::vec("(data: ?[a-zü{}:]{0,8}|: [a-z]{0,4}|)", 0..12),
            ends in prop::collection::vec(0..3_usize, 12),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let text: String = lines
                .iter()
                .zip(&ends)
                .map(|(line, end)| format!("{line}{}", ["\n", "\r\n", "\r"][*end]))
                .collect();
            let bytes = text.as_bytes();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read(&pieces), read(&[bytes]));
        }

        #[test]
        fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = SseReader::default().read(&bytes);
        }
    }
}
