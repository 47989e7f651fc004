/** Errors as the API sends them. */
import { type MwarpError, toMwarpError } from "../errors.js";
import type { ErrorBody } from "../protocol/api.js";

/** Any thrown value as the body of an answer. */
export function errorBody(thrown: unknown): ErrorBody {
  const error = toMwarpError(thrown);
  return {
    code: error.code,
    message: error.message,
    hint: error.hint,
    phase: error.phase ?? null,
    details: [...error.details],
    exit: error.exit,
  };
}

const statuses: Readonly<Record<number, 400 | 404 | 409 | 499 | 422 | 503>> = {
  2: 400,
  3: 503,
  4: 409,
  5: 422,
  6: 404,
  7: 499,
};

/** HTTP status that says the same as the error's exit code; 500 for what has none of its own. */
export const httpStatus = (error: MwarpError): number => statuses[error.exit] ?? 500;
