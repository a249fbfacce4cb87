#include "daemon/http_server.h"

#include <httplib.h>
#include <spdlog/spdlog.h>

#include <future>
#include <thread>

namespace guestscope {

namespace {

constexpr std::size_t kMaxRequestBody = 64 << 10;
constexpr time_t kReadTimeoutSeconds = 10;
constexpr time_t kWriteTimeoutSeconds = 30;
constexpr time_t kKeepAliveSeconds = 2;  // an idle connection holds a thread
// Each connection has one as long as it is open. A test suite may have many clients at once.
constexpr std::size_t kThreads = 128;
constexpr std::size_t kRequestsPerConnection = 10'000;

void set_body(const httplib::Request& request, httplib::Response& response, Answer&& answer) {
  response.status = answer.status;
  if (answer.retry_after) response.set_header("Retry-After", std::to_string(*answer.retry_after));
  if (answer.allow_get_only) response.set_header("Allow", "GET, HEAD");
  response.set_header("Cache-Control", "no-store");
  // A range of a JSON text is no JSON, and the library would cut it out with status 200: it leaves
  // streams alone.
  if (!answer.stream && !request.ranges.empty())
    answer.stream = [body = std::move(answer.body)](const WriteBody& write) { write(body); };
  if (!answer.stream) {
    response.set_content(std::move(answer.body), answer.content_type);
    return;
  }
  response.set_chunked_content_provider(
      answer.content_type,
      [stream = std::move(answer.stream)](std::size_t /*offset*/, httplib::DataSink& sink) {
        bool reading = true;
        try {
          stream([&](std::string_view piece) {
            reading = reading && sink.write(piece.data(), piece.size());
            return reading;
          });
        } catch (const std::exception& error) {
          // Headers are out: all that can be done is to end the connection, so that the client sees
          // a cut answer.
          spdlog::error("an answer was cut short: {}", error.what());
          return false;
        }
        if (reading) sink.done();
        return reading;
      });
}

Answer method_not_allowed(const std::string& method) {
  Answer answer = problem_answer(405, "method_not_allowed", "This interface only reads",
                                 fmt::format("{} is not allowed: use GET", method));
  answer.allow_get_only = true;
  return answer;
}

/// What the library itself answers (a request that cannot be parsed, is too large, …) becomes a
/// problem as well.
void explain_error(const httplib::Request& request, httplib::Response& response) {
  if (!response.body.empty() || response.content_provider_) return;
  const int status = response.status;
  set_body(request, response,
           problem_answer(status, status < 500 ? "invalid_request" : "internal",
                          "The request failed", fmt::format("HTTP status {}", status)));
}

}  // namespace

struct HttpServer::Parts {
  httplib::Server server;
  std::thread thread;
  std::future<void> served;  // ready when the last request is
  int port = 0;
  socket_t listener = -1;
};

HttpServer::HttpServer(const Api& api) : parts_(std::make_unique<Parts>()) {
  httplib::Server& server = parts_->server;
  server.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
  server.set_payload_max_length(kMaxRequestBody);
  server.set_read_timeout(kReadTimeoutSeconds, 0);
  server.set_write_timeout(kWriteTimeoutSeconds, 0);
  server.set_tcp_nodelay(true);
  // Without SO_REUSEPORT, which the library sets by default: a second daemon on the same port must
  // fail to start.
  server.set_socket_options([this](socket_t socket) {
    parts_->listener = socket;
    const int yes = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  });
  server.set_keep_alive_timeout(kKeepAliveSeconds);
  server.set_keep_alive_max_count(kRequestsPerConnection);
  server.set_pre_routing_handler(
      [&api](const httplib::Request& request, httplib::Response& response) {
        if (request.method != "GET" && request.method != "HEAD") {
          // A body has to be read by the library first, or it would be taken for another request.
          // Without a length there is none (RFC 9112, 6.3), but the library would wait for it.
          if (request.has_header("Content-Length") || request.has_header("Transfer-Encoding"))
            return httplib::Server::HandlerResponse::Unhandled;
          set_body(request, response, method_not_allowed(request.method));
          return httplib::Server::HandlerResponse::Handled;
        }
        set_body(request, response, api.answer(request.target));
        return httplib::Server::HandlerResponse::Handled;
      });
  const auto refuse = [](const httplib::Request& request, httplib::Response& response) {
    set_body(request, response, method_not_allowed(request.method));
  };
  server.Post(".*", refuse)
      .Put(".*", refuse)
      .Patch(".*", refuse)
      .Delete(".*", refuse)
      .Options(".*", refuse);
  server.set_error_handler(explain_error);
}

HttpServer::~HttpServer() {
  parts_->server.stop();
  if (parts_->thread.joinable()) parts_->thread.join();
}

int HttpServer::port() const { return parts_->port; }

Result<void> HttpServer::start(const ListenAddress& address) {
  errno = 0;
  if (address.port == 0)
    parts_->port = parts_->server.bind_to_any_port(address.host);
  else if (parts_->server.bind_to_port(address.host, address.port))
    parts_->port = address.port;
  if (parts_->port <= 0)
    return fail(ErrorCode::kSystem, "cannot listen on {}: {}", address.to_string(),
                errno != 0 ? std::strerror(errno) : "no such address on this machine");
  // The library listens with a backlog of 5: of more clients that come at once, the others would
  // try again a second later.
  ::listen(parts_->listener, SOMAXCONN);
  std::promise<void> done;
  parts_->served = done.get_future();
  parts_->thread = std::thread([this, finished = std::move(done)]() mutable {
    parts_->server.listen_after_bind();
    finished.set_value();
  });
  // The library ignores a stop() that comes before its loop runs.
  while (!parts_->server.is_running() &&
         parts_->served.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) {
  }
  return {};
}

bool HttpServer::stop(std::chrono::milliseconds grace) {
  parts_->server.stop();
  if (!parts_->thread.joinable()) return true;
  if (parts_->served.wait_for(grace) != std::future_status::ready) return false;
  parts_->thread.join();
  return true;
}

}  // namespace guestscope
