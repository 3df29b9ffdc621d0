import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.search import TextIndex, tokens
from tests.support.videos import catalogue_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Crème brûlée, 10 MIN!", ["creme", "brulee", "10", "min"]),
        ("ÄPFEL & Straße", ["apfel", "strasse"]),
        ("美食教程", ["美食", "食教", "教程"]),
        ("猫", ["猫"]),
        ("", []),
        ("🎉 ...", []),
    ],
)
def test_tokens(text, words):
    assert tokens(text) == words


def test_search_looks_at_titles_tags_and_categories_of_active_videos():
    titles = ["Cat plays piano", "Dog plays ball", "Quiet forest", "Cat asleep", None]
    tags = [["music"], ["sport"], ["cat"], [], ["forest"]]
    status = ["active", "active", "active", "deleted", "active"]
    category = ["pets", "pets", "nature", "pets", "music"]
    index = TextIndex.of(catalogue_of(5, title=titles, tags=tags, status=status, category=category))
    assert set(index.search("CAT", 10).rows.tolist()) == {0, 2}
    assert index.search("cat piano", 10).rows[0] == 0
    assert index.search("music", 10).rows.tolist() == [4, 0]  # equals: the newer first
    assert index.search("plays", 1).rows.tolist() == [1]
    assert len(index.search("unheard", 10)) == 0
    assert len(index.search("", 10)) == 0


def test_an_empty_catalogue_can_be_searched():
    assert len(TextIndex.of(catalogue_of(0)).search("cat", 5)) == 0


@given(st.lists(st.text(max_size=30), min_size=1, max_size=6), st.data())
def test_the_index_has_the_tokens_of_each_text_as_a_whole(titles, data):
    texts = st.lists(st.text(max_size=10), max_size=3)
    tags = data.draw(st.lists(texts, min_size=len(titles), max_size=len(titles)))
    index = TextIndex.of(catalogue_of(len(titles), title=titles, tags=tags))
    expected = {
        (token, row)
        for row, (title, others) in enumerate(zip(titles, tags, strict=True))
        for token in tokens(" ".join([title, *others]))
    }
    found = [
        (token, row)
        for token, code in index.vocabulary.items()
        for row in index.rows[index.bounds[code] : index.bounds[code + 1]].tolist()
    ]
    assert set(found) == expected and len(found) == len(expected)
