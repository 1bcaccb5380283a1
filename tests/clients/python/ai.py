"""The official clients against a house whose upstream is a mock: only the base URL is another."""

import os

import anthropic
import openai
import replicate

house = os.environ["HOUSE"]
done = []
messages = [{"role": "user", "content": "Say hello"}]
# The key is the client's own and wrong: the house has the right one.
oai = openai.OpenAI(base_url=f"{house}/openai/v1", api_key="sk-client", max_retries=0)
ant = anthropic.Anthropic(base_url=f"{house}/anthropic", api_key="sk-client", max_retries=0)


def check(test):
    test()
    done.append(test.__name__)


@check
def openai_chat():
    answer = oai.chat.completions.create(model="mock", messages=messages)
    assert answer.choices[0].message.content == "Hello from the mock"
    assert answer.usage.completion_tokens == 5


@check
def openai_stream():
    stream = oai.chat.completions.create(model="mock", messages=messages, stream=True)
    pieces = [c.choices[0].delta.content for c in stream if c.choices and c.choices[0].delta.content]
    assert pieces == ["Hello", " from", " the", " mock"], pieces


@check
def openai_tools():
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    answer = oai.chat.completions.create(model="mock", messages=messages, tools=tools)
    assert answer.choices[0].message.tool_calls[0].function.name == "weather"


@check
def openai_transcription():
    answer = oai.audio.transcriptions.create(model="whisper-1", file=("speech.wav", b"\7" * 300_000))
    assert "speech.wav" in answer.text, answer


@check
def openai_errors():
    for status, kind in [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (409, openai.ConflictError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ]:
        try:
            oai.chat.completions.create(model=f"error-{status}", messages=messages)
            raise AssertionError(status)
        except kind as error:
            assert error.status_code == status
            assert "the mock says no" in str(error)
            if status == 429:
                assert error.response.headers["retry-after"] == "7"


@check
def openai_retries_after_a_429():
    patient = openai.OpenAI(base_url=f"{house}/openai/v1", api_key="x", max_retries=1)
    answer = patient.chat.completions.create(model="once-429", messages=messages)
    assert answer.choices[0].message.content == "Hello from the mock"


@check
def anthropic_message():
    answer = ant.messages.create(model="mock", max_tokens=9, messages=messages)
    assert answer.content[0].text == "Hello from the mock"
    assert answer._request_id == "req_anthropic"


@check
def anthropic_stream():
    with ant.messages.stream(model="mock", max_tokens=9, messages=messages) as stream:
        assert list(stream.text_stream) == ["Hello", " from", " the", " mock"]
        assert stream.get_final_message().usage.output_tokens == 5


@check
def anthropic_tools():
    tools = [{"name": "weather", "input_schema": {"type": "object"}}]
    answer = ant.messages.create(model="mock", max_tokens=9, messages=messages, tools=tools)
    assert answer.content[0].input == {"city": "Berlin"}


@check
def anthropic_errors():
    for status, kind in [
        (400, anthropic.BadRequestError),
        (401, anthropic.AuthenticationError),
        (404, anthropic.NotFoundError),
        (429, anthropic.RateLimitError),
        (500, anthropic.InternalServerError),
    ]:
        try:
            ant.messages.create(model=f"error-{status}", max_tokens=9, messages=messages)
            raise AssertionError(status)
        except kind as error:
            assert error.status_code == status


@check
def replicate_run():
    client = replicate.Client(api_token="r8_client", base_url=f"{house}/replicate")
    prediction = client.predictions.create(version="abc", input={"prompt": "x"})
    prediction.wait()
    assert prediction.status == "succeeded", prediction


print(f"{len(done)} checks passed: {', '.join(done)}")
