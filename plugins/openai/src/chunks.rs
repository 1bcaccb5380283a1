//! Long text in pieces that a model can take.

/// Cuts a text into pieces of at most so many bytes: between paragraphs if that leaves at least half a piece, else
/// between sentences, else between words, else between characters.
pub(crate) fn chunks(text: &str, most: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text.trim();
    while rest.len() > most {
        let mut end = most;
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let window = rest.get(..end).unwrap_or_default();
        let cut = ["\n\n", ". ", "\n", " "]
            .iter()
            .filter_map(|between| window.rfind(between).map(|at| at + between.len()))
            .find(|cut| *cut >= end / 2)
            .unwrap_or(end)
            // A first character that is wider than a piece goes whole.
            .max(rest.chars().next().map_or(1, char::len_utf8));
        let (piece, after) = rest.split_at(cut);
        pieces.push(piece.trim_end());
        rest = after.trim_start();
    }
    if !rest.is_empty() {
        pieces.push(rest);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_cut_where_a_reader_would() {
        assert_eq!(chunks("short", 100), ["short"]);
        assert_eq!(chunks("", 100), Vec::<&str>::new());
        assert_eq!(chunks("One two.\n\nThree four", 14), ["One two.", "Three four"]);
        assert_eq!(chunks("One two. Three four", 14), ["One two.", "Three four"]);
        assert_eq!(chunks("abcdefgh", 3), ["abc", "def", "gh"]);
    }

    proptest! {
        #[test]
        fn nothing_but_white_space_is_lost(text in "\\PC{0,300}", most in 4usize..50) {
            let pieces = chunks(&text, most);
            prop_assert!(pieces.iter().all(|piece| piece.len() <= most && !piece.is_empty()));
            let all: String = pieces.concat().split_whitespace().collect();
            let expected: String = text.split_whitespace().collect();
            prop_assert_eq!(all, expected);
        }
    }
}
