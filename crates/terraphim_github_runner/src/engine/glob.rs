//! The patterns of `hashFiles`: which files match, and in which order they are hashed.

use thiserror::Error;

/// A pattern that no search can be made with.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "hashFiles cannot use the pattern {0:?}: '..' is not allowed in it, nor '.' but as its first segment; name files \
     from the workspace on"
)]
pub(super) struct PatternError(String);

/// Patterns in order; a later one overrules an earlier one.
#[derive(Clone, Debug)]
pub(super) struct Globs {
    patterns: Vec<Pattern>,
    /// Where GitHub starts to search, in this order: it decides the order of the files.
    roots: Vec<Vec<String>>,
}

#[derive(Clone, Debug)]
struct Pattern {
    is_negated: bool,
    segments: Vec<String>,
}

impl Globs {
    /// Patterns relative to the workspace, or absolute in it. Each may be several lines.
    ///
    /// # Errors
    /// A pattern goes up or stays in a directory (`..`, `.`), as @actions/glob refuses it.
    pub(super) fn new(patterns: &[String], workspace: &str) -> Result<Globs, PatternError> {
        let lines = patterns.iter().flat_map(|text| text.lines()).map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let patterns = lines.filter_map(|line| Pattern::new(line, workspace).transpose());
        let patterns = patterns.collect::<Result<Vec<Pattern>, PatternError>>()?;
        let mut roots: Vec<Vec<String>> = Vec::new();
        for pattern in patterns.iter().filter(|pattern| !pattern.is_negated) {
            let root = pattern.root();
            if !roots.contains(&root) {
                roots.push(root);
            }
        }
        let all = roots.clone();
        roots.retain(|root| !all.iter().any(|other| other.len() < root.len() && root.starts_with(other)));
        Ok(Globs { patterns, roots })
    }

    /// Whether the file, relative to the workspace, is to be hashed.
    pub(super) fn matches(&self, path: &str) -> bool {
        let path: Vec<&str> = path.split('/').collect();
        let mut is_in = false;
        for pattern in &self.patterns {
            // A pattern can only change what it speaks against.
            if pattern.is_negated == is_in && match_path(&pattern.segments, &path) {
                is_in = !is_in;
            }
        }
        is_in
    }

    /// Sorts files as GitHub's search finds them: by where it starts, then directory by directory.
    pub(super) fn sort(&self, paths: &mut [String]) {
        paths.sort_by_cached_key(|path| {
            let segments: Vec<String> = path.split('/').map(str::to_owned).collect();
            let root = self.roots.iter().position(|root| segments.starts_with(root));
            (root.unwrap_or(usize::MAX), segments)
        });
    }
}

impl Pattern {
    /// `None` if it is about files elsewhere.
    fn new(line: &str, workspace: &str) -> Result<Option<Pattern>, PatternError> {
        let bangs = line.len() - line.trim_start_matches('!').len();
        let path = line[bangs..].trim();
        // Of an absolute path the first is the root, which is no `.`.
        let mut segments = path.split('/').enumerate();
        if segments.any(|(at, segment)| segment == ".." || (segment == "." && at > 0)) {
            return Err(PatternError(path.to_owned()));
        }
        let path = match path.strip_prefix('/') {
            Some(_) => path.strip_prefix(workspace),
            None => Some(path),
        };
        Ok(path.map(|path| {
            let segments = path.split('/').filter(|segment| !segment.is_empty() && *segment != ".");
            Pattern { is_negated: bangs % 2 == 1, segments: segments.map(str::to_owned).collect() }
        }))
    }

    /// The directory that everything it matches is in: its segments before the first with a wildcard.
    fn root(&self) -> Vec<String> {
        let literal = |segment: &&String| !segment.contains(['*', '?', '[']);
        self.segments.iter().take_while(literal).cloned().collect()
    }
}

/// Whether the pattern matches the path or a directory that it is in.
fn match_path(pattern: &[String], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, _) => true,
        (Some((first, rest)), _) if first == "**" => {
            (0..=path.len()).any(|skipped| match_path(rest, &path[skipped..]))
        }
        (Some(_), None) => false,
        (Some((first, rest)), Some((name, tail))) => {
            let (first, name): (Vec<char>, Vec<char>) = (first.chars().collect(), name.chars().collect());
            match_name(&first, &name) && match_path(rest, tail)
        }
    }
}

/// `*`, `?`, `[a-z]`, `[!a]` and `\` in one name.
fn match_name(pattern: &[char], name: &[char]) -> bool {
    let Some((first, rest)) = pattern.split_first() else { return name.is_empty() };
    match first {
        '*' => (0..=name.len()).any(|skipped| match_name(rest, &name[skipped..])),
        '?' => !name.is_empty() && match_name(rest, &name[1..]),
        '[' => match class(rest, name.first().copied()) {
            Some((holds, rest)) => holds && match_name(rest, &name[1..]),
            None => name.first() == Some(&'[') && match_name(rest, &name[1..]),
        },
        '\\' if !rest.is_empty() => name.first() == rest.first() && match_name(&rest[1..], &name[1..]),
        _ => name.first() == Some(first) && match_name(rest, &name[1..]),
    }
}

/// Whether a character is in the class that starts the pattern, and the pattern after it; `None` if the class does
/// not end.
fn class(pattern: &[char], c: Option<char>) -> Option<(bool, &[char])> {
    let is_negated = matches!(pattern.first(), Some('!' | '^'));
    let start = usize::from(is_negated);
    // A `]` right at the start stands for itself.
    let length = pattern.get(start + 1..)?.iter().position(|c| *c == ']')? + 1;
    let (members, rest) = (&pattern[start..start + length], &pattern[start + length + 1..]);
    let mut found = false;
    let mut index = 0;
    while let Some(low) = members.get(index) {
        let high = members.get(index + 2).filter(|_| members.get(index + 1) == Some(&'-'));
        found |= c.is_some_and(|c| (*low..=*high.unwrap_or(low)).contains(&c));
        index += if high.is_some() { 3 } else { 1 };
    }
    Some((c.is_some() && found != is_negated, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(patterns: &[&str]) -> Globs {
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        Globs::new(&patterns, "/workspace/repo").unwrap()
    }

    /// @actions/glob: "Relative pathing '.' and '..' is not allowed."
    #[test]
    fn patterns_with_relative_segments_are_refused() {
        for pattern in ["a/../b", "../*", "..", "!../*", "a/..", "a/./b", "././a", "a\n ../b ", "/w/../x"] {
            let error = Globs::new(&[pattern.to_owned()], "/w").unwrap_err();
            assert!(error.to_string().contains("'..' is not allowed"), "{pattern}");
        }
        let error = Globs::new(&["a.txt".to_owned(), "!dir/../b".to_owned()], "/w").unwrap_err();
        assert!(error.to_string().starts_with("hashFiles cannot use the pattern \"dir/../b\": "), "{error}");
        for pattern in ["# ../x", ".", "./a..b/...", "!./x", "...", ".a/b."] {
            assert!(Globs::new(&[pattern.to_owned()], "/w").is_ok(), "{pattern}");
        }
    }

    #[test]
    fn patterns_match_files() {
        for (patterns, path, want) in [
            (&["*.txt"][..], "a.txt", true),
            (&["*.txt"], "b/a.txt", false),
            (&["**/*.txt"], "a.txt", true),
            (&["**/*.txt"], "x/y/.a.txt", true),
            (&["src"], "src/a/b.c", true),
            (&["src/*"], "src/a/b.c", true),
            (&["src/?.c"], "src/a.c", true),
            (&["src/[a-c]x"], "src/bx", true),
            (&["src/[!a-c]x"], "src/bx", false),
            (&["a[]b]c"], "a]c", true),
            (&["a[bc"], "a[bc", true),
            (&[r"a\*"], "a*", true),
            (&[r"a\*"], "ab", false),
            (&["**", "!src"], "src/a", false),
            (&["**", "!src", "src/keep"], "src/keep", true),
            (&["# all\n**"], "x", true),
            (&["/workspace/repo/x"], "x", true),
            (&["/elsewhere/x"], "x", false),
            (&["./x"], "x", true),
            (&["ä*"], "äö", true),
        ] {
            assert_eq!(globs(patterns).matches(path), want, "{patterns:?} {path}");
        }
    }

    #[test]
    fn files_are_sorted_directory_by_directory() {
        let mut paths = ["a.txt", "a/b.txt", "B", "a-b"].map(str::to_owned).to_vec();
        globs(&["**"]).sort(&mut paths);
        assert_eq!(paths, ["B", "a/b.txt", "a-b", "a.txt"]);
    }

    #[test]
    fn files_come_in_the_order_of_the_directories_that_were_named() {
        let mut paths = ["a/1", "b/1"].map(str::to_owned).to_vec();
        globs(&["b/*", "a/*"]).sort(&mut paths);
        assert_eq!(paths, ["b/1", "a/1"]);
        globs(&["b/*", "a/*", "**"]).sort(&mut paths);
        assert_eq!(paths, ["a/1", "b/1"]);
    }
}
