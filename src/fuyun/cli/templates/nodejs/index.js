// Answers HTTP requests: the event describes the request, the returned object the response.
// `fuyun invoke` passes an event of its own, without a request.

export const handler = async (event, context) => {
  const method = event.requestContext?.http.method ?? 'GET';
  if (method !== 'GET' && method !== 'HEAD') {
    return { statusCode: 405, headers: { allow: 'GET, HEAD' }, body: 'only GET here\n' };
  }
  const name = event.queryStringParameters?.name ?? 'world';
  console.info('greeting', name);
  return {
    statusCode: 200,
    body: { message: `Hello, ${name}!`, path: event.rawPath, request: context.awsRequestId },
  };
};
