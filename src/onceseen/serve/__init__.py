"""The detector over HTTP: `onceseen serve` (extra `serve`: FastAPI, uvicorn, prometheus-client).

settings    limits, and whether they are safe where the server listens
bodies      a request's body, read within its limits of bytes and time, as pictures
batches     concurrent requests' pictures, checked together
answers     what is said, as JSON with a schema
metrics     what Prometheus is told
page        the API as a page that needs no network
app         the endpoints
server      uvicorn, with a limit on how long a request's head may take
"""
