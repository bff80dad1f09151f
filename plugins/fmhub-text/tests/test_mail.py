"""What is read of a message, and what must never be."""

from email.message import EmailMessage

import pytest
from fmhub_text.mail import read, strip

PLAIN = b"""From list-admin@lists.example  Tue Aug  6 11:51:02 2002
Return-Path: <secret@path.example>
Received: from relay.example by hub.example; Tue, 6 Aug 2002
To: someone@lists.example
X-Spam-Status: No
Subject: Re: [ILUG] Re[2]: =?iso-8859-1?q?caf=E9?= opening
Content-Type: text/plain; charset="us-ascii"

Come and see http://cafe.example/menu?x=1
or write to host@cafe.example.
________________________________
Fork mailing list
http://lists.example/mailman/listinfo/fork
"""


def test_only_subject_and_body_without_list_marks_addresses_and_links():
    assert read(PLAIN) == "café opening Come and see LINK or write to ADDRESS"


def test_quoted_printable_and_html_parts():
    message = EmailMessage()
    message["Subject"] = "Offer"
    message.set_content(
        "<html><head><title>t</title><style>x{}</style></head><body>Caf\u00e9 <b>now</b><p>50&nbsp;% off</body></html>", subtype="html"
    )
    assert read(message.as_bytes()) == "Offer Café now 50 % off"


def test_the_plain_part_wins_and_attachments_are_left_out():
    message = EmailMessage()
    message["Subject"] = "Hi"
    message.set_content("plain words")
    message.add_alternative("<p>html words</p>", subtype="html")
    message.add_attachment("attached words", filename="note.txt")
    assert read(message.as_bytes()) == "Hi plain words"


def test_html_that_calls_itself_plain_is_stripped():
    assert read(b"Subject: x\n\n<table><tr><td>buy<td>now</table>") == "x buynow"


def test_signatures_of_people_stay_and_footers_of_lists_go():
    assert read(b"Subject: s\n\nbody\n-- \nAnn") == "s body -- Ann"
    assert read(b"Subject: s\n\nbody\n-- \nTo unsubscribe send mail") == "s body"
    assert read(b"Subject: s\n\nbody\n-----BEGIN PGP SIGNATURE-----\nabc") == "s body"
    assert read(b"Subject: s\n\n--DeathToSpamDeathToSpam--\nbody") == "s body"


@pytest.mark.parametrize(
    "raw", [b"", b"\n\n", b"From x\n", b"Subject: =?bad?q?x?=\n\n\xff\xfe", b"Content-Type: text/plain; charset=nonsense\n\n\xe9t\xe9"]
)
def test_broken_mail_is_read_as_well_as_it_can_be(raw):
    assert isinstance(read(raw), str)


def test_an_unknown_charset_is_read_as_latin_1():
    assert read(b"Content-Type: text/plain; charset=nonsense\n\n\xe9t\xe9") == "été"


def test_script_and_style_are_never_shown():
    assert strip("<script>a</script>b<style>c</style>").strip() == "b"
    assert strip("b</script></script>c").strip() == "bc"
