"""The comment on the pull request: one, kept up to date, of ours only."""

from __future__ import annotations

from dataclasses import replace

import pytest

from action.comment import MAX_BODY, marker, post
from action.github import Context
from tests.action.server import TOKEN, GitHubServer, comment


def say(context: Context, body: str, **options: object) -> str:
    return post(context, marker(context, ()), body, **{"mode": "true", "models": 1, "findings": True, **options})  # type: ignore[arg-type]


def test_the_first_run_writes_and_the_next_ones_write_anew(context: Context, github: GitHubServer) -> None:
    assert say(context, "one") == "The pull request has a new comment."
    assert say(context, "two") == "The comment on the pull request is up to date."
    (only,) = github.comments
    assert only["body"] == f"{marker(context, ())}\ntwo"
    written = len(github.requests)
    say(context, "two")
    assert [method for method, _, _ in github.requests[written:]] == ["GET"]
    assert {token for _, _, token in github.requests} == {f"Bearer {TOKEN}"}


def test_it_is_found_behind_many_others(context: Context, github: GitHubServer) -> None:
    github.comments = [comment(n, f"talk {n}") for n in range(1, 251)]
    github.comments.append(comment(251, f"{marker(context, ())}\nold"))
    say(context, "new")
    assert len(github.comments) == 251 and github.comments[-1]["body"].endswith("\nnew")


def test_what_people_write_is_never_changed(context: Context, github: GitHubServer) -> None:
    mark = marker(context, ())
    github.comments = [comment(1, f"{mark}\nmine", "mallory", "User"), comment(2, f"see: {mark}\nquoted")]
    github.comments.append(comment(3, f"{mark}\nHello!", "welcome[bot]"))
    say(context, "answer")
    said = [one["body"] for one in github.comments]
    assert said == [f"{mark}\nmine", f"see: {mark}\nquoted", f"{mark}\nHello!", f"{mark}\nanswer"]


def test_every_use_of_the_action_has_its_own(context: Context) -> None:
    other = replace(context, name="check/other")
    marks = {marker(context, ()), marker(other, ()), marker(context, ("a/b",)), marker(context, ("a/c",))}
    assert len(marks) == 4 and all("\n" not in mark and mark.startswith("<!--") for mark in marks)


def test_findings_only(context: Context, github: GitHubServer) -> None:
    assert say(context, "fine", mode="findings", findings=False) == "No comment: nothing was found."
    assert github.comments == []
    say(context, "bad", mode="findings")
    say(context, "fine again", mode="findings", findings=False)
    assert [one["body"].splitlines()[-1] for one in github.comments] == ["fine again"]


def test_a_comment_does_not_outlive_what_it_is_about(context: Context, github: GitHubServer) -> None:
    assert say(context, "x", models=0) == "No comment: no model was changed."
    say(context, "PASS")
    say(context, "no model to check", models=0)
    assert [one["body"].splitlines()[-1] for one in github.comments] == ["no model to check"]


def test_no_comment_at_all(context: Context, github: GitHubServer) -> None:
    assert say(context, "x", mode="false") == ""
    assert say(replace(context, pull_request=None), "x").startswith("No comment: this run belongs to no pull request")
    assert "no GitHub token" in say(replace(context, token=None), "x")
    assert github.requests == []


@pytest.mark.parametrize("status", [401, 403, 404])
def test_without_permission_it_says_what_to_grant(context: Context, github: GitHubServer, status: int) -> None:
    github.refuse = status
    said = say(context, "x")
    assert f"GitHub answered {status}" in said and "pull-requests: write" in said and TOKEN not in said


def test_a_short_failure_is_waited_for(context: Context, github: GitHubServer) -> None:
    github.fail = 2
    assert say(context, "x") == "The pull request has a new comment."


def test_a_server_that_is_gone_is_no_failure(context: Context) -> None:
    said = say(replace(context, api="http://127.0.0.1:9"), "x")
    assert said.startswith("No comment: GitHub could not be reached") and TOKEN not in said


def test_the_longest_comment_is_taken(context: Context, github: GitHubServer) -> None:
    body = "x" * (MAX_BODY - len(marker(context, ())) - 1)
    assert say(context, body) == "The pull request has a new comment."
    assert "422" in say(replace(context, name="another"), body + "xx")
