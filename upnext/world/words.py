"""The world's own words: what a topic is called in titles, tags and searches, in five languages."""

from functools import cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from upnext.world.geography import LANGUAGES, TOPICS

WORDS_PER_TOPIC = 6
OPENERS_PER_LANGUAGE = 6

_OPENERS = {
    "en": "best|my first|how to love|five minutes of|the truth about|a day with",
    "de": "das beste über|mein erstes Mal|so gelingt|fünf Minuten|die Wahrheit über|ein Tag mit",
    "fr": "le meilleur de|ma première fois|comment aimer|cinq minutes de|la vérité sur|une journée avec",
    "es": "lo mejor de|mi primera vez|cómo disfrutar|cinco minutos de|la verdad sobre|un día con",
    "ja": "最高の|はじめての|かんたん|五分でわかる|本当の|一日の",
}
_WORDS = {
    "cooking": {
        "en": "recipe kitchen pasta baking soup dinner",
        "de": "Rezept Küche Nudeln Backen Suppe Abendessen",
        "fr": "recette cuisine pâtes pâtisserie soupe dîner",
        "es": "receta cocina pasta horno sopa cena",
        "ja": "レシピ 台所 パスタ お菓子 スープ 夕食",
    },
    "football": {
        "en": "goal match striker penalty league stadium",
        "de": "Tor Spiel Stürmer Elfmeter Liga Stadion",
        "fr": "but match attaquant penalty ligue stade",
        "es": "gol partido delantero penalti liga estadio",
        "ja": "ゴール 試合 ストライカー ペナルティ リーグ スタジアム",
    },
    "gaming": {
        "en": "gameplay console speedrun quest multiplayer boss",
        "de": "Spielzug Konsole Rekordlauf Mission Mehrspieler Endgegner",
        "fr": "manette console chrono quête multijoueur boss",
        "es": "videojuego consola récord misión multijugador jefe",
        "ja": "ゲーム実況 ゲーム機 最速攻略 クエスト 対戦 ボス",
    },
    "music": {
        "en": "song guitar concert melody drums chorus",
        "de": "Lied Gitarre Konzert Melodie Schlagzeug Refrain",
        "fr": "chanson guitare concert mélodie batterie refrain",
        "es": "canción guitarra concierto melodía batería estribillo",
        "ja": "歌 ギター コンサート メロディー ドラム サビ",
    },
    "travel": {
        "en": "journey island backpack hotel city beach",
        "de": "Reise Insel Rucksack Hotel Stadt Strand",
        "fr": "voyage île randonneur hôtel ville plage",
        "es": "viaje isla mochila hotel ciudad playa",
        "ja": "旅行 島 バックパック ホテル 街歩き 海辺",
    },
    "fitness": {
        "en": "workout squat running yoga muscle stretching",
        "de": "Training Kniebeuge Laufen Yoga Muskel Dehnen",
        "fr": "entraînement squat course yoga muscle étirement",
        "es": "entrenamiento sentadilla correr yoga músculo estirar",
        "ja": "筋トレ スクワット ランニング ヨガ 筋肉 ストレッチ",
    },
    "science": {
        "en": "experiment physics chemistry laboratory atom theory",
        "de": "Experiment Physik Chemie Labor Atom Theorie",
        "fr": "expérience physique chimie laboratoire atome théorie",
        "es": "experimento física química laboratorio átomo teoría",
        "ja": "実験 物理 化学 研究室 原子 理論",
    },
    "history": {
        "en": "empire ancient castle medieval revolution museum",
        "de": "Kaiserreich Antike Burg Mittelalter Revolution Museum",
        "fr": "empire antique château médiéval révolution musée",
        "es": "imperio antiguo castillo medieval revolución museo",
        "ja": "帝国 古代 城 中世 革命 博物館",
    },
    "comedy": {
        "en": "joke prank sketch laugh parody standup",
        "de": "Witz Streich Sketch Lachen Parodie Kabarett",
        "fr": "blague farce sketch rire parodie humoriste",
        "es": "chiste broma parodia risa comedia monólogo",
        "ja": "冗談 ドッキリ コント 笑い パロディ 漫才",
    },
    "fashion": {
        "en": "outfit dress sneakers style runway denim",
        "de": "Mode Kleid Turnschuhe Stil Laufsteg Jeans",
        "fr": "tenue robe baskets style défilé jean",
        "es": "moda vestido zapatillas estilo pasarela vaquero",
        "ja": "コーデ ドレス スニーカー おしゃれ ランウェイ デニム",
    },
    "beauty": {
        "en": "makeup skincare lipstick hairstyle mascara nails",
        "de": "Schminke Hautpflege Lippenstift Frisur Wimpern Nägel",
        "fr": "maquillage soin rouge coiffure mascara ongles",
        "es": "maquillaje piel labial peinado pestañas uñas",
        "ja": "メイク スキンケア 口紅 髪型 マスカラ ネイル",
    },
    "cars": {
        "en": "engine racing drift garage electric convertible",
        "de": "Motor Rennen Drift Werkstatt Elektroauto Cabrio",
        "fr": "moteur rallye dérapage garage électrique cabriolet",
        "es": "motor carrera derrape taller eléctrico descapotable",
        "ja": "エンジン レース ドリフト ガレージ 電気自動車 オープンカー",
    },
    "pets": {
        "en": "puppy kitten hamster parrot leash aquarium",
        "de": "Welpe Kätzchen Hamster Papagei Leine Aquarium",
        "fr": "chiot chaton hamster perroquet laisse aquarium",
        "es": "cachorro gatito hámster loro correa acuario",
        "ja": "子犬 子猫 ハムスター オウム 散歩 水槽",
    },
    "nature": {
        "en": "forest waterfall wildlife mountain ocean sunrise",
        "de": "Wald Wasserfall Wildtiere Gebirge Ozean Sonnenaufgang",
        "fr": "forêt cascade faune montagne océan aurore",
        "es": "bosque cascada fauna montaña océano amanecer",
        "ja": "森 滝 野生動物 山 海 日の出",
    },
    "diy": {
        "en": "woodwork drill paint furniture repair workshop",
        "de": "Holzarbeit Bohrer Farbe Möbel Reparatur Heimwerken",
        "fr": "menuiserie perceuse peinture meuble réparation bricolage",
        "es": "carpintería taladro pintura mueble reparar bricolaje",
        "ja": "木工 ドリル 塗装 家具 修理 工作",
    },
    "gardening": {
        "en": "seeds roses compost vegetables greenhouse pruning",
        "de": "Samen Rosen Kompost Gemüse Gewächshaus Schnitt",
        "fr": "graines roses compost légumes serre taille",
        "es": "semillas rosas abono verduras invernadero poda",
        "ja": "種 バラ 堆肥 野菜 温室 剪定",
    },
    "coding": {
        "en": "python compiler algorithm database bug terminal",
        "de": "Python Übersetzer Algorithmus Datenbank Fehlersuche Konsolenbefehl",
        "fr": "python compilateur algorithme données bogue terminal",
        "es": "python compilador algoritmo datos depurar terminal",
        "ja": "パイソン コンパイラ アルゴリズム データベース バグ ターミナル",
    },
    "finance": {
        "en": "stocks budget savings crypto mortgage dividend",
        "de": "Aktien Haushalt Sparen Krypto Hypothek Dividende",
        "fr": "bourse budget épargne crypto hypothèque dividende",
        "es": "bolsa presupuesto ahorro cripto hipoteca dividendo",
        "ja": "株 家計 貯金 暗号資産 住宅ローン 配当",
    },
    "movies": {
        "en": "trailer director thriller actor sequel cinema",
        "de": "Vorschau Regisseur Krimi Schauspieler Fortsetzung Kino",
        "fr": "bande-annonce réalisateur suspense acteur suite cinéma",
        "es": "tráiler director suspense actor secuela cine",
        "ja": "予告編 監督 サスペンス 俳優 続編 映画館",
    },
    "art": {
        "en": "sketchbook watercolor portrait sculpture gallery canvas",
        "de": "Skizzenbuch Aquarell Porträt Skulptur Galerie Leinwand",
        "fr": "carnet aquarelle portrait sculpture galerie toile",
        "es": "boceto acuarela retrato escultura galería lienzo",
        "ja": "スケッチ 水彩 肖像画 彫刻 画廊 キャンバス",
    },
    "dance": {
        "en": "choreography ballet hiphop salsa freestyle twirl",
        "de": "Choreografie Ballett Streetdance Salsa Freistil Drehung",
        "fr": "chorégraphie ballet hip-hop salsa impro pirouette",
        "es": "coreografía ballet urbano salsa improvisar giro",
        "ja": "振り付け バレエ ヒップホップ サルサ 即興 ターン",
    },
    "space": {
        "en": "rocket galaxy telescope astronaut moon planet",
        "de": "Rakete Galaxie Teleskop Astronaut Mond Planet",
        "fr": "fusée galaxie télescope astronaute lune planète",
        "es": "cohete galaxia telescopio astronauta luna planeta",
        "ja": "ロケット 銀河 望遠鏡 宇宙飛行士 月 惑星",
    },
    "parenting": {
        "en": "baby toddler bedtime playground school family",
        "de": "Säugling Kleinkind Schlafenszeit Spielplatz Schule Familie",
        "fr": "bébé bambin coucher jeux école famille",
        "es": "bebé niño dormir parque escuela familia",
        "ja": "赤ちゃん 幼児 寝かしつけ 公園 学校 家族",
    },
    "chess": {
        "en": "checkmate opening gambit endgame grandmaster bishop",
        "de": "Schachmatt Eröffnung Gambit Endspiel Großmeister Läufer",
        "fr": "échec-et-mat ouverture gambit finale grand-maître fou",
        "es": "jaque-mate apertura gambito final gran-maestro alfil",
        "ja": "チェックメイト 序盤 ギャンビット 終盤 名人 ビショップ",
    },
}


@cache
def topic_words() -> pa.Array:
    """Every word, as ``word_code`` numbers them: string[topics * languages * 6]."""
    return pa.array(
        [word for topic in TOPICS for language in LANGUAGES for word in _WORDS[topic][language].split()],
        pa.string(),
    )


@cache
def openers() -> pa.Array:
    """What titles begin with, six per language in the order of LANGUAGES: string[30]."""
    return pa.array([text for language in LANGUAGES for text in _OPENERS[language].split("|")], pa.string())


@cache
def spellings() -> NDArray[np.int32]:
    """For each word's code, one code for all words spelt alike in any language: int32[720]."""
    return np.asarray(topic_words().dictionary_encode().indices.to_numpy(), dtype=np.int32)
