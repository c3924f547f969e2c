from __future__ import annotations

from tests.transcripts import plain


def test_a_padded_number_of_a_transcript_is_as_any_other():
    assert plain("[10.6 s] 5. done") == plain("[ 4.1 s] 5. done") == "[#] # done"
