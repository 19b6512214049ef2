"""A small tokenizer of every kind that the zoo's models have, built as the published ones are."""

from functools import cache

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

KINDS = ("wordpiece uncased", "wordpiece cased", "roberta", "modernbert", "bigbird", "albert", "xlm-r", "deberta-v2")
_SPECIAL = {"cls_token": "<s>", "pad_token": "<pad>", "sep_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}
_TEXTS = (
    "aspirin warfarin ibuprofen metformin asthma diabetes lung cancer chest pain fever naïve café",
    "x aspirin y asthma z fever x cancer y chest z aspirin y fever x asthma z cancer x chest",
    "No fever, no pain (yet); see http://example.org/a-b. COX-2: 37°C, 25mg/kg. \n\n",
    "PLAN:\n1. aspirin\n2. asthma/fever\n",
    "المريض يعاني من ألم في الصدر. 患者は胸痛を訴えた。胸痛 ปวดหัวมาก ปวดท้อง दर्द बुखार החולה סובל מכאבים",
)


@cache
def tokenizer_of(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer of one of KINDS, trained on a few lines of many scripts."""
    backend, trainer = _BUILDERS[kind.split()[0]](kind)
    backend.train_from_iterator(_TEXTS * 4, trainer)
    first, last = ((_SPECIAL[name], backend.token_to_id(_SPECIAL[name])) for name in ("cls_token", "sep_token"))
    if kind == "roberta":
        backend.post_processor = processors.RobertaProcessing(last, first, trim_offsets=True, add_prefix_space=False)
    else:
        template = {"single": "<s> $A </s>", "pair": "<s> $A </s> $B </s>", "special_tokens": [first, last]}
        backend.post_processor = processors.TemplateProcessing(**template)
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=256, **_SPECIAL)


def _wordpiece(kind: str) -> tuple[Tokenizer, trainers.Trainer]:
    backend = Tokenizer(models.WordPiece(unk_token="<unk>"))
    backend.normalizer = normalizers.BertNormalizer(lowercase="uncased" in kind)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return backend, trainers.WordPieceTrainer(vocab_size=300, show_progress=False, special_tokens=[*_SPECIAL.values()])


def _byte_level(kind: str) -> tuple[Tokenizer, trainers.Trainer]:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    options = {"show_progress": False, "special_tokens": [*_SPECIAL.values()], "initial_alphabet": alphabet}
    return backend, trainers.BpeTrainer(vocab_size=500, **options)


def _sentencepiece(kind: str) -> tuple[Tokenizer, trainers.Trainer]:
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace("\n", " ")] if kind == "deberta-v2" else [normalizers.NFKC()]
    )
    metaspace = pre_tokenizers.Metaspace(prepend_scheme="always", split=kind != "bigbird")
    blanks = pre_tokenizers.WhitespaceSplit()
    split = [blanks, metaspace] if kind in ("albert", "xlm-r") else [metaspace]
    backend.pre_tokenizer = pre_tokenizers.Sequence(split)
    backend.decoder = decoders.Metaspace()
    options = {"show_progress": False, "special_tokens": [*_SPECIAL.values()], "unk_token": "<unk>"}
    return backend, trainers.UnigramTrainer(vocab_size=260, **options)


_BUILDERS = dict.fromkeys(("bigbird", "albert", "xlm-r", "deberta-v2"), _sentencepiece)
_BUILDERS |= dict.fromkeys(("roberta", "modernbert"), _byte_level) | {"wordpiece": _wordpiece}
