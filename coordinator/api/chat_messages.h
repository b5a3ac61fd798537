// Chat messages as clients send them, made into what chat templates expect.
#pragma once

#include <boost/json.hpp>

#include "coordinator/api/field_reader.h"
#include "model/chat/chat_template.h"

namespace pregate::coordinator {

/// "messages": each with a role; lists of text parts are joined by newlines, a null content becomes
/// "", and the arguments of tool calls, which travel as JSON text, become objects. Other members
/// pass through.
boost::json::array read_messages(FieldReader& in);

/// "tools", "tool_choice", "add_generation_prompt", "chat_template_kwargs".
model::ChatOptions read_chat_options(FieldReader& in);

}  // namespace pregate::coordinator
