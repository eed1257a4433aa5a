"""The words for times in English, German, French and Spanish, and the names of months in some more languages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping


def _table(*rows: str) -> dict[str, int]:
    """The number of the row, from 1 on, of each word."""
    return {word.replace("_", " "): number for number, row in enumerate(rows, start=1) for word in row.split()}


MONTHS = _table(
    "january jan januar jänner janvier janv enero ene janeiro gennaio januari",
    "february feb februar février fevrier févr febrero feb fevereiro febbraio februari",
    "march mar märz maerz mrz mars marzo março maart",
    "april apr avril avr abril abr aprile",
    "may mai mayo maio maggio mei",
    "june jun juni juin junio junho giugno",
    "july jul juli juillet juil julio julho luglio",
    "august aug août aout agosto augustus",
    "september sep sept septembre septiembre setiembre setembro settembre",
    "october oct oktober okt octobre octubre outubro ottobre",
    "november nov novembre noviembre novembro",
    "december dec dezember dez décembre decembre déc diciembre dic dezembro dicembre",
)

WEEKDAYS = _table(
    "monday montag lundi lunes",
    "tuesday dienstag mardi martes",
    "wednesday mittwoch mercredi miércoles",
    "thursday donnerstag jeudi jueves",
    "friday freitag vendredi viernes",
    "saturday samstag sonnabend samedi sábado",
    "sunday sonntag dimanche domingo",
)
SHORT_WEEKDAYS = "mon tues tue wed thurs thu fri sat sun"
"""Known beside a date alone."""

NUMBERS = {
    number: value
    for value, numbers in {
        1: "a an one ein eine einen einem einer un une una",
        2: "two zwei deux dos a_couple_of couple_of a_couple",
        3: "three drei trois tres few a_few some ein_paar einigen quelques unos unas algunos algunas",
        4: "four vier quatre cuatro several mehreren plusieurs varios varias",
        5: "five fünf cinq cinco",
        6: "six sechs seis",
        7: "seven sieben sept siete",
        8: "eight acht huit ocho",
        9: "nine neun neuf nueve",
        10: "ten zehn dix diez",
        11: "eleven elf onze once",
        12: "twelve zwölf douze doce",
    }.items()
    for number in (each.replace("_", " ") for each in numbers.split())
}
VAGUE = re.compile(r"few|couple|some|several|paar|einig|mehrer|quelques|plusieurs|un[oa]s|algun|vari", re.IGNORECASE)

ORDINALS = _table(
    "first 1st erste ersten première premier primera primer",
    "second 2nd zweite zweiten deuxième seconde segunda segundo",
    "third 3rd dritte dritten troisième tercera tercer",
    "fourth 4th vierte vierten quatrième cuarta cuarto",
    "last final letzte letzten dernière dernier última último",
)
LAST = 5

DAY, WEEK, WEEKEND, MONTH, QUARTER, HALF, YEAR = "day", "week", "weekend", "month", "quarter", "half", "year"
UNITS = {
    word.replace("_", " "): unit
    for unit, words in {
        DAY: "days day tage tagen tag jours jour días dias día",
        WEEK: "weeks week wochen woche semaines semaine semanas semana",
        WEEKEND: "weekends weekend wochenende week-end fin_de_semana",
        MONTH: "months month monate monaten monats monat mois meses mes",
        QUARTER: "quarters quarter quartals quartal trimestre",
        HALF: "half hälfte moitié mitad",
        YEAR: "years year jahre jahren jahres jahr années année ans an años año",
    }.items()
    for word in words.split()
}

SEASONS = {
    season: first
    for first, seasons in {
        3: "spring frühling frühjahr printemps primavera",
        6: "summer sommer été verano",
        9: "autumn fall herbst automne otoño",
        12: "winter hiver invierno",
    }.items()
    for season in seasons.split()
}
"""The first month of each, in the north."""

HOLIDAYS = {
    name.replace("_", " "): (month, day, length)
    for (month, day, length), names in {
        (12, 24, 3): "christmas xmas weihnachten noël navidad",
        (12, 24, 1): "christmas_eve heiligabend",
        (12, 25, 1): "christmas_day",
        (12, 31, 1): "new_year's_eve new_years_eve silvester",
        (1, 1, 1): "new_year's_day new_years_day neujahr",
        (2, 14, 1): "valentine's_day valentines_day valentinstag",
        (10, 31, 1): "halloween",
    }.items()
    for name in names.split()
}
"""Month, day and number of days of each."""

DAY_WORDS = {
    word.replace("_", " "): offset
    for offset, words in {
        -2: "the_day_before_yesterday day_before_yesterday vorgestern avant-hier anteayer antes_de_ayer",
        -1: "yesterday last_night gestern letzte_nacht hier_soir hier ayer anoche",
        0: "today tonight this_morning this_afternoon this_evening heute aujourd'hui ce_matin ce_soir hoy esta_mañana",
        1: "tomorrow morgen_früh demain",
    }.items()
    for word in words.split()
}

LAST_WORDS = (
    "last past previous letzten letzter letztes letzte vergangenen vergangene vergangenes vorigen vorige voriges"
)
THIS_WORDS = "this current diesen dieser dieses diese cette ce cet esta este"
NEXT_WORDS = "next coming nächsten nächster nächstes nächste kommenden kommende"
RELATIVE = {
    word: offset for words, offset in ((LAST_WORDS, -1), (THIS_WORDS, 0), (NEXT_WORDS, 1)) for word in words.split()
}
BEHIND = {
    word: offset
    for words, offset in (
        ("dernière dernier passée passé pasada pasado", -1),
        ("prochaine prochain próxima próximo que_viene", 1),
    )
    for word in (each.replace("_", " ") for each in words.split())
}
"""What stands behind its unit: `la semaine dernière`."""

EARLY, MIDDLE, LATE = 0, 1, 2
PARTS = {
    word.replace("_", " "): part
    for part, words in {
        EARLY: "early the_beginning_of beginning_of the_start_of start_of anfang début principios_de inicios_de",
        MIDDLE: "mid- mid the_middle_of middle_of mitte mi- mediados_de",
        LATE: "late the_end_of end_of ende fin finales_de fines_de",
    }.items()
    for word in words.split()
}

CUES = frozenset(
    re.findall(
        r"\S+", "in during since until throughout over im seit während en depuis pendant durante desde hasta jusqu'en"
    )
)
"""A name that has other meanings is a month or a year behind these."""

LOOSE_CUES = frozenset(
    re.findall(r"\S+", "before after by from to till of on bis vor nach ab von avant après antes después")
)
"""It is so behind these if nothing follows that would make it a person."""

REPEATED = frozenset(re.findall(r"\S+", "every each all black good casual fat jeden chaque tous cada todos"))
"""Behind these a day is none in particular."""

NOT_FRENCH = re.compile(
    r"\b(?:ist|war|was|wie|wo|wer|der|das|die|und|ich|wir|hat|haben|nicht|ein|eine|steht|gibt|mit)\b", re.IGNORECASE
)
"""`hier` is yesterday in French, and here in German."""

LATEST = re.compile(
    r"\b(?:latest|newest|current(?:ly)?|(?:most|more) recent(?:ly)?|up[- ]to[- ]date|right now|as of now|nowadays"
    r"|these days|at the moment|at present|presently"
    r"|aktuell(?:e[nrsm]?|ste[nrsm]?)?|neueste[nrsm]?|neuste[nrsm]?|jüngste[nrsm]?|derzeit(?:ige[nrsm]?)?|zurzeit"
    r"|momentan|gegenwärtig|actuel(?:le)?s?|actuellement|en ce moment|(?:plus|très) récente?s?"
    r"|actual(?:es|mente)|última(?:s|mente)?|últimos?|más recientes?)\b"
    r"|\bnow\b(?!\s+(?:that|and then))|\bjetzt\b|\bmaintenant\b|\bahora\b",
    re.IGNORECASE,
)
"""A question with such a word asks for how things are now."""

GENERAL = frozenset(
    re.findall(
        r"\S+",
        """
        happen happened happening going discuss discussed discussing talk talked talking say said speak spoke mention
        mentioned work worked working do done doing make made learn learned decide decided everything anything something
        things thing stuff events event news new notes note entries entry drawers drawer memories memory all list show
        tell give find summary summarize summarise recap review please changed change get go went i've we've what's
        we i you us our my me the a an of on in at from
        about between over during since until before after around early late
        was were is are did does have has had been be what
        which who how when and any there that this it up to for with s ve
        seit bis vor nach ab zwischen depuis avant après entre desde hasta antes después
        was haben wir gemacht ist passiert geschah geschehen besprochen gesagt am im alles zeig zeige mir neues gab es
        qu'avons-nous que s'est-il passé fait avons-nous nous a-t-on le la les en du de l tout quoi montre
        qué que hicimos hemos hecho pasó ha pasado el los las del todo muestra
        """,
    )
)
"""Words that say nothing of what is looked for."""


def alternatives(words: Iterable[str] | Mapping[str, object]) -> str:
    """A pattern of any of the words, the longest first; a blank is any white space, an apostrophe any of the two."""
    ordered = sorted(words, key=lambda word: (-len(word), word))
    return "|".join(re.escape(word).replace("\\ ", r"\s+").replace("'", "['’]") for word in ordered)
