"""The family's word-level tokenizer: one token per word, number or punctuation mark."""

from collections.abc import Sequence

from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from entitrack.tasks.boxes.vocabulary import LABELS, OBJECTS

PAD, BOS, EOS, UNKNOWN = "<pad>", "<s>", "</s>", "<unk>"
SPECIAL = (PAD, BOS, EOS, UNKNOWN)
PUNCTUATION = tuple(",.:?!+-=")
EXTRA_LABELS = ("AA", "BB", "PP")
NUMBERS = tuple(str(number) for number in range(100))
_BOXES = """
The the is in Box box Boxes boxes contains contain contained containing a an of and are these three
there There additional bunch objects object not with inside into to from all some other has have put
document stored holding placed
"""
_DIALOGUE = """
USER ASSISTANT Hello hello hi please where what which who how why when thanks thank you your yes no I
me my we it that this can could would do does did am was be will like see find want need know think
good nice very today morning evening welcome sure sorry help here now new old big small red blue green
really also or but so for about on at too glad great day much okay bye ask
"""
BOXES_WORDS = tuple(_BOXES.split())
DIALOGUE_WORDS = tuple(_DIALOGUE.split())


def words() -> tuple[str, ...]:
    """Return every word of the vocabulary, each once, in the order of its token id."""
    everything = (
        *SPECIAL,
        *PUNCTUATION,
        *BOXES_WORDS,
        *LABELS,
        *EXTRA_LABELS,
        *NUMBERS,
        *OBJECTS,
        *DIALOGUE_WORDS,
    )
    return tuple(dict.fromkeys(everything))


class Vocabulary:
    """Maps words to token ids without the tokenizer's text handling, for generated corpora.

    Attributes:
        ids: token id of each word.
    """

    def __init__(self) -> None:
        """Number the words in the order of `words()`."""
        self.ids = {word: index for index, word in enumerate(words())}

    def __len__(self) -> int:
        """Return the number of words."""
        return len(self.ids)

    def encode(self, sentence: Sequence[str]) -> list[int]:
        """Return the token ids of a sentence of words, BOS first.

        Raises:
            KeyError: a word is not in the vocabulary; the corpora must never emit `<unk>`.
        """
        unknown = [word for word in sentence if word not in self.ids]
        if unknown:
            raise KeyError(f"words {unknown} are not in the family's vocabulary; add them to vocabulary.py")
        return [self.ids[BOS], *(self.ids[word] for word in sentence)]


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return the tokenizer that ships with every model of the family.

    It splits at white space and around each punctuation mark, prepends `<s>`, and reports offsets.
    """
    vocabulary = Vocabulary()
    tokenizer = Tokenizer(WordLevel(vocabulary.ids, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, vocabulary.ids[BOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=PAD, unk_token=UNKNOWN
    )
